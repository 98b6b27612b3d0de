-- Takes entries of one producer into the stream of one shard, each of them once, and keeps the stream in its bounds.
--
-- KEYS: stream, book, producers.
-- ARGV: producer, last sequence number that Redis had confirmed to it, number of entries that Redis had confirmed to
--       it, most entries in the stream, most bytes, start of the keys of large entries' parts;
--       then for each entry: sequence number, route, encoding, number of parts, size, value (empty when in parts).
-- Answer: the producer's totals, which are entries accepted and entries forgotten; entries that this call took, and
--       entries that it trimmed.
--
-- The producer repeats a call until it is answered, so every call must be harmless when it comes again. What Redis had
-- confirmed and does not know any more (it was restarted without its data, or a replica took over that had not heard
-- of it) is forgotten: that number follows from what is stored here and what the producer was told, and not from
-- earlier calls.

local stream, book, producers = KEYS[1], KEYS[2], KEYS[3]
local producer, confirmed_seq, confirmed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local entries_max, bytes_max, parts = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]

-- Reading comes first: a foreign value under one of the keys stops the script before it has changed anything.
local count = redis.call('XLEN', stream)
local bytes = tonumber(redis.call('HGET', book, 'bytes') or '0') or 0
local last, accepted, forgotten = 0, 0, 0
local stored = redis.call('HGET', producers, producer)
if stored then
  local a, b, c = string.match(stored, '^(%d+):(%d+):(%d+)$')
  if a then
    last, accepted, forgotten = tonumber(a), tonumber(b), tonumber(c)
  end
end

local lost = 0
if last < confirmed_seq then
  lost = confirmed - accepted - forgotten
  last = confirmed_seq
end

local taken, taken_bytes, known = 0, 0, 0
for i = 7, #ARGV, 6 do
  local seq = tonumber(ARGV[i])
  if seq > last then
    local route, encoding, count, size = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
    if count == '0' then
      redis.call('XADD', stream, '*', 'route', route, 'seq', ARGV[i], 'producer', producer, 'size', size,
        encoding, ARGV[i + 5])
    else
      redis.call('XADD', stream, '*', 'route', route, 'seq', ARGV[i], 'producer', producer, 'size', size,
        'parts', count, 'encoding', encoding)
    end
    taken, taken_bytes, last = taken + 1, taken_bytes + tonumber(size), seq
  else
    known = known + 1
  end
end

accepted, forgotten = accepted + taken, forgotten + lost
if taken > 0 or lost ~= 0 then
  redis.call('HSET', producers, producer, string.format('%.0f:%.0f:%.0f', last, accepted, forgotten))
end
if lost ~= 0 then
  redis.call('HINCRBY', book, 'forgotten', lost)
end
if known > 0 then
  redis.call('HINCRBY', book, 'duplicates', known)
end
if taken == 0 then
  return { accepted, forgotten, 0, 0 }
end

count, bytes = count + taken, bytes + taken_bytes
-- The oldest go first. One call removes some more than it brought, so that a lowered bound is reached without keeping
-- Redis busy for long.
local trimmed, trims_max, foreign = 0, taken + 64, 0
while trimmed < trims_max and count > 0 and (count > entries_max or bytes > bytes_max) do
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local fields, size, seq, by, pieces = oldest[2], 0, '', '', 0
  for f = 1, #fields, 2 do
    local name, value = fields[f], fields[f + 1]
    if name == 'size' then
      size = math.max(tonumber(value) or 0, 0)
    elseif name == 'seq' then
      seq = value
    elseif name == 'producer' then
      by = value
    elseif name == 'parts' then
      pieces = math.min(tonumber(value) or 0, 4096)
    end
  end
  for piece = 0, pieces - 1 do
    redis.call('DEL', parts .. by .. ':' .. seq .. ':' .. string.format('%.0f', piece))
  end
  redis.call('XDEL', stream, oldest[1])
  if by == '' or not string.match(seq, '^%d+$') then
    -- No producer of ours has written it, so it was not counted when it came.
    foreign = foreign + 1
  end
  count, bytes, trimmed = count - 1, bytes - size, trimmed + 1
end
if count == 0 or bytes < 0 then
  bytes = 0
end
redis.call('HINCRBY', book, 'accepted', taken + foreign)
redis.call('HINCRBY', book, 'accepted_bytes', taken_bytes)
redis.call('HSET', book, 'bytes', string.format('%.0f', bytes))
if foreign > 0 then
  redis.call('HINCRBY', book, 'foreign', foreign)
end
if trimmed > 0 then
  redis.call('HINCRBY', book, 'trimmed', trimmed)
end
return { accepted, forgotten, taken, trimmed }

-- Counts entries of one shard as settled, each once, whoever settles it and however often.
--
-- KEYS: stream, book, outcomes, causes, examples, aside.
-- ARGV: group, prefix of part keys, causes at most, examples at most, entries set aside at most, bytes of one entry set
-- aside at most, bytes set aside at most, seconds for which they are kept;
-- number of labels, label...; number of outcomes, outcome...; number of causes, then for each {field, rest of its JSON,
-- example, bytes of the example}; then for each entry {id, size, label, outcome or 0, cause or 0, nanoseconds, parts,
-- prefix of its parts, why it is set aside or '', 1 when its fields are to be copied then, deliveries, 1 when no producer
-- of ours wrote it}.
-- Returns {entries counted, of these trimmed before, entries that somebody had settled}.
--
-- XACK says whether somebody has settled an entry: one that is acknowledged here counts, any other does not. It comes
-- first also because Redis allows it without memory, and lets a script go on that has written: settling frees memory.

local stream, book, outcomes, causes, examples, aside = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local group, part_prefix = ARGV[1], ARGV[2]
local causes_max, examples_max = tonumber(ARGV[3]), tonumber(ARGV[4])
local aside_max, aside_entry_max, aside_bytes_max, aside_seconds =
  ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]

-- A key of another type would stop the script in its middle; so nothing is written before all are known to be right.
for index, kind in ipairs({ 'stream', 'hash', 'hash', 'hash', 'hash', 'stream' }) do
  local found = redis.call('TYPE', KEYS[index]).ok
  if found ~= 'none' and found ~= kind then
    return redis.error_reply('WRONGTYPE ' .. KEYS[index] .. ' is a ' .. found .. ' and not a ' .. kind)
  end
end

local next_argument = 9
local function argument()
  local value = ARGV[next_argument]
  next_argument = next_argument + 1
  return value
end
local function list()
  local values = {}
  for index = 1, tonumber(argument()) do
    values[index] = argument()
  end
  return values
end

local labels, outcome_fields, found_causes = list(), list(), {}
for index = 1, tonumber(argument()) do
  found_causes[index] = {
    field = argument(), rest = argument(), example = argument(), bytes = tonumber(argument()), count = 0,
  }
end

-- Nanoseconds are beyond what a number of Lua holds exactly: they stay decimal text without leading zeros.
local function is_later(one, other)
  return #one > #other or (#one == #other and one > other)
end

-- Copies the entry, cut to the bytes allowed, to where people can look at it. Says how many bytes the book has counted for
-- it, and whether a producer of ours wrote it: a worker that sets it aside unread does not know.
local function set_aside(id, why, deliveries, with_fields)
  local kept, left = { 'why', why, 'deliveries', deliveries, 'first_id', id }, aside_entry_max
  local entry = with_fields and redis.call('XRANGE', stream, id, id)[1]
  local fields = entry and entry[2] or {}
  local own = {}
  for at = 1, #fields, 2 do
    if fields[at] == 'size' or fields[at] == 'producer' or fields[at] == 'seq' then
      own[fields[at]] = fields[at + 1]
    end
  end
  for at = 1, #fields, 2 do
    local name, value = string.sub(fields[at], 1, left), fields[at + 1]
    left = left - #name
    kept[#kept + 1], kept[#kept + 2] = name, string.sub(value, 1, left)
    left = left - math.min(#value, left) - 16
    if left <= 0 or #kept >= 64 then
      break
    end
  end
  redis.call('XADD', aside, 'MAXLEN', aside_max, '*', unpack(kept))
  redis.call('EXPIRE', aside, aside_seconds)
  local length = redis.call('XLEN', aside)
  while length > 1 and (redis.call('MEMORY', 'USAGE', aside) or 0) > aside_bytes_max do
    length = math.floor(length / 2)
    redis.call('XTRIM', aside, 'MAXLEN', length)
  end
  local is_ours = not entry or (own.producer and string.match(own.seq or '', '^%d+$'))
  local size = own.size and #own.size < 16 and string.match(own.size, '^%d+$')
  return size and tonumber(size) or 0, is_ours and '0' or '1'
end

local counts, outcome_counts = {}, {}
local bytes, counted, trimmed, again, foreign, asides = 0, 0, 0, 0, 0, 0
while next_argument <= #ARGV do
  local id, size, label, outcome, cause = argument(), tonumber(argument()), tonumber(argument()), tonumber(argument()), tonumber(argument())
  local at, parts, part_of = argument(), tonumber(argument()), argument()
  local why, with_fields, deliveries, is_foreign = argument(), argument(), argument(), argument()
  if redis.call('XACK', stream, group, id) == 1 then
    counted = counted + 1
    if why ~= '' then
      local its_size, its_foreign = set_aside(id, why, deliveries, with_fields == '1')
      if with_fields == '1' then
        size, is_foreign = its_size, its_foreign
      end
    end
    if redis.call('XDEL', stream, id) == 1 then
      bytes = bytes + size
      -- One that was trimmed has been counted in then.
      if is_foreign == '1' then
        foreign = foreign + 1
      end
    else
      trimmed = trimmed + 1
    end
    for part = 0, parts - 1 do
      redis.call('UNLINK', part_prefix .. part_of .. ':' .. part)
    end
    if labels[label] == 'set_aside' then
      asides = asides + 1
    else
      counts[label] = (counts[label] or 0) + 1
    end
    if outcome > 0 then
      outcome_counts[outcome] = (outcome_counts[outcome] or 0) + 1
    end
    local found = found_causes[cause]
    if found then
      found.count = found.count + 1
      if not found.first or is_later(found.first, at) then
        found.first = at
      end
      if not found.last or is_later(at, found.last) then
        found.last = at
      end
    end
  else
    again = again + 1
  end
end
if counted == 0 then
  return { 0, 0, again }
end

for label, count in pairs(counts) do
  redis.call('HINCRBY', book, 'fate:' .. labels[label], count)
end
local function add(field, count)
  if count ~= 0 then
    redis.call('HINCRBY', book, field, count)
  end
end
add('bytes', -bytes)
add('trimmed', -trimmed)
add('set_aside', asides)
add('accepted', foreign)
add('foreign', foreign)
-- What others have written by hand was never counted in, so the sum may fall below zero.
if tonumber(redis.call('HGET', book, 'bytes') or 0) < 0 or redis.call('XLEN', stream) == 0 then
  redis.call('HSET', book, 'bytes', 0)
end
for outcome, count in pairs(outcome_counts) do
  redis.call('HINCRBY', outcomes, outcome_fields[outcome], count)
end
for _, found in ipairs(found_causes) do
  if found.count > 0 then
    local known = redis.call('HGET', causes, found.field)
    local count, first, last = found.count, found.first, found.last
    if known then
      local before, since, until_ =
        string.match(known, '^{"count":(%d+),"first_seen_ns":(%d+),"last_seen_ns":(%d+),')
      if before then
        count = count + tonumber(before)
        first = is_later(first, since) and since or first
        last = is_later(last, until_) and last or until_
      end
    end
    if known or redis.call('HLEN', causes) < causes_max then
      redis.call('HSET', causes, found.field, string.format(
        '{"count":%.0f,"first_seen_ns":%s,"last_seen_ns":%s,%s', count, first, last, found.rest))
      if found.example ~= '' then
        local kept = redis.call('HGET', examples, found.field)
        local kept_bytes = kept and tonumber(string.match(kept, '"bytes":(%d+)') or '')
        if (kept and (not kept_bytes or found.bytes < kept_bytes))
            or (not kept and redis.call('HLEN', examples) < examples_max) then
          redis.call('HSET', examples, found.field, found.example)
        end
      end
    else
      redis.call('HINCRBY', book, 'causes_omitted', found.count)
    end
  end
end
return { counted, trimmed, again }

-- Reads new entries of several shards.
--
-- KEYS: their streams. ARGV: group, consumer, entries at most of each stream, bytes at most of all, bytes at most of one
-- value, entries at most of one step. Returns for each stream {error or '', entry...}.
--
-- Redis reads entries by number and not by size, so they are taken in small steps until there are bytes enough. An error
-- of one stream is a value: what others gave in the same call would else be lost to this worker.

local group, consumer = ARGV[1], ARGV[2]
local entries_max, bytes_left, longest, step = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local reply = {}
for index, stream in ipairs(KEYS) do
  local taken = { '' }
  while bytes_left > 0 and #taken <= entries_max do
    local count = math.min(step, entries_max + 1 - #taken)
    local read = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', stream, '>')
    if not read then
      break
    end
    if read.err then
      taken[1] = read.err
      break
    end
    local entries = read[1][2]
    for _, entry in ipairs(entries) do
      local shaped, bytes = shape(entry, longest)
      taken[#taken + 1] = shaped
      bytes_left = bytes_left - bytes
    end
    if #entries < count then
      break
    end
  end
  reply[index] = taken
end
return reply

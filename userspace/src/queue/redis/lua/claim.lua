-- Takes over entries that others have taken and not settled.
--
-- KEYS: the stream. ARGV: group, consumer, milliseconds of idleness at least, bytes at most of all, bytes at most of one
-- value, id... Returns {number of ids that were looked at, entry...}. An entry that is not in the stream any more was
-- trimmed, and counted then.

local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local idle, bytes_left, longest = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local reply = { 0 }
for at = 6, #ARGV do
  if bytes_left <= 0 then
    break
  end
  reply[1] = reply[1] + 1
  local claimed = redis.call('XCLAIM', stream, group, consumer, idle, ARGV[at])
  local entry = claimed[1]
  if entry and entry[2] then
    local shaped, bytes = shape(entry, longest)
    reply[#reply + 1] = shaped
    bytes_left = bytes_left - bytes
  elseif #claimed > 0 then
    -- Before version 7 Redis kept such an entry as pending for ever.
    redis.call('XACK', stream, group, ARGV[at])
  end
end
return reply

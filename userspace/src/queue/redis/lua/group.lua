-- Makes the group of a stream that has none, from its first entry on.
--
-- KEYS: the stream. ARGV: group. Returns 1 when it was made.

local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if made.err and string.find(made.err, 'BUSYGROUP', 1, true) then
  return 0
end
return made.err and made or 1

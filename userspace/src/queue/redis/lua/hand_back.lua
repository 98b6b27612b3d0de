-- Gives entries to another consumer name, for whoever can do them.
--
-- KEYS: the stream. ARGV: group, consumer that has them, then for each {id, consumer that gets it, deliveries it is to
-- have had or -1 for as many as it had}. Returns how many.
--
-- Only what is still this worker's: somebody may have taken it over. It gets the idleness of a day, so that nobody waits.

local stream, group, mine = KEYS[1], ARGV[1], ARGV[2]
local given = 0
for at = 3, #ARGV, 3 do
  local id, to, deliveries = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1, mine)
  if pending.err then
    -- Without a group nothing is anybody's; other errors are said.
    if string.find(pending.err, 'NOGROUP', 1, true) then
      return given
    end
    return pending
  end
  if pending[1] then
    if deliveries < 0 then
      deliveries = pending[1][4]
    end
    redis.call('XCLAIM', stream, group, to, 0, id, 'IDLE', 86400000, 'RETRYCOUNT', deliveries, 'JUSTID')
    given = given + 1
  end
end
return given

-- Forgets consumers that have nothing.
--
-- KEYS: the stream. ARGV: group, consumer... Returns how many. Redis would forget what they have with them, so that is
-- looked at in the same breath.

local forgotten = 0
for at = 2, #ARGV do
  if not redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[at])[1] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[at])
    forgotten = forgotten + 1
  end
end
return forgotten

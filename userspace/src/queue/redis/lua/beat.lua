-- Says that a worker is there, and who else is.
--
-- KEYS: the workers. ARGV: this worker, milliseconds after which one that says nothing is gone, milliseconds for which it
-- is remembered, workers remembered at most, 1 when this one leaves. Returns those that are there, in order.
--
-- The clock is that of Redis alone. What lies in its future was said before it was set back.

local workers, worker, gone_after, forgotten_after = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local found = redis.call('TYPE', workers).ok
if found ~= 'none' and found ~= 'zset' then
  return redis.error_reply('WRONGTYPE ' .. workers .. ' is a ' .. found .. ' and not a zset')
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Redis allows these without memory, and lets a script go on that has written.
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now - forgotten_after)
redis.call('ZREMRANGEBYRANK', workers, 0, -1 - tonumber(ARGV[4]))
for _, other in ipairs(redis.call('ZRANGEBYSCORE', workers, now + gone_after, '+inf')) do
  redis.call('ZADD', workers, now - gone_after, other)
end
redis.call('ZADD', workers, ARGV[5] == '1' and now - gone_after or now, worker)
local there = redis.call('ZRANGEBYSCORE', workers, '(' .. (now - gone_after), '+inf')
table.sort(there)
return there

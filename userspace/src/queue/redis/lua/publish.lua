-- Writes what one process knows, and when it was heard of by the clock of this server.
--
-- KEYS: the process's hash, the set of processes like it
-- ARGV: its id, how long to keep it in milliseconds, 1 when the set's times are ours to write, then fields and values
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local keep = tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'heard_ms', string.format('%.0f', ms))
for at = 4, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
end
redis.call('PEXPIRE', KEYS[1], keep)
if ARGV[3] == '1' then
    redis.call('ZADD', KEYS[2], ms, ARGV[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ms - keep)
    redis.call('PEXPIRE', KEYS[2], keep)
else
    -- Leases go by the times in this set: a process that is not in it is listed, and not called alive.
    redis.call('ZADD', KEYS[2], 'NX', 0, ARGV[1])
end
return redis.status_reply('OK')

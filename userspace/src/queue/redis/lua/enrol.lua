-- Lists an experiment among those under its prefix.
--
-- KEYS: the list
-- ARGV: the experiment, how long to keep it in milliseconds
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZADD', KEYS[1], ms, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ms - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.status_reply('OK')

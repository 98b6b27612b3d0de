-- Reads all counts of one shard at one moment, so that they add up.
--
-- KEYS: stream, book, outcomes, causes, examples, aside
-- ARGV: the group
local delivered = 0
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
-- Before the first worker there is no group.
if type(pending) == 'table' and not pending.err then
    delivered = pending[1]
end
return {
    redis.call('XLEN', KEYS[1]),
    delivered,
    redis.call('XLEN', KEYS[6]),
    redis.call('HGETALL', KEYS[2]),
    redis.call('HGETALL', KEYS[3]),
    redis.call('HGETALL', KEYS[4]),
    redis.call('HGETALL', KEYS[5]),
}

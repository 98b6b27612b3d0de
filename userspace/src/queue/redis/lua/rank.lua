-- Gives each path that has none the next place in the order in which the fleet came to know paths.
--
-- KEYS: the order
-- ARGV: how long to keep it in milliseconds, most places, then paths
-- Returns the number of places given.
local places = redis.call('HLEN', KEYS[1])
for at = 3, #ARGV do
    if places < tonumber(ARGV[2]) and redis.call('HSETNX', KEYS[1], ARGV[at], places + 1) == 1 then
        places = places + 1
    end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return places

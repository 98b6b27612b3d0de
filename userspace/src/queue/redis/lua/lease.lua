-- Takes, keeps and gives up shards.
--
-- KEYS: the keys of their owners. ARGV: this worker, milliseconds of a lease, then for each key `keep`, `take`, `drop` or
-- `look`. Returns for each key 1 when the shard is this worker's, 0 when it is nobody's, -1 when it is another's.
--
-- PEXPIRE comes first since Redis allows it without memory, and lets a script go on that has written.

local worker, lease = ARGV[1], tonumber(ARGV[2])
local reply = {}
for index, key in ipairs(KEYS) do
  local want = ARGV[index + 2]
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= 'string' then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ' and not a string')
  end
  local owner = redis.call('GET', key)
  if owner == worker then
    if want == 'drop' then
      redis.call('DEL', key)
      reply[index] = 0
    else
      redis.call('PEXPIRE', key, lease)
      reply[index] = 1
    end
  elseif owner then
    local left = redis.call('PTTL', key)
    -- The clock of Redis was set back, or somebody made the key by hand.
    if left < 0 or left > lease * 4 then
      redis.call('PEXPIRE', key, lease)
    end
    reply[index] = -1
  elseif want == 'take' or want == 'keep' then
    redis.call('PEXPIRE', key, lease)
    redis.call('SET', key, worker, 'PX', lease)
    reply[index] = 1
  else
    reply[index] = 0
  end
end
return reply

-- Cancel one task: at once when it waits, through its worker when it runs.
-- KEYS  1-13 of the queue (engine/keys.py)  14 its result key
-- ARGV  1 id  2 result record  3 ttl_ms  4 control channel  5 done channel
-- REPLY 1 when something changed, else 0
-- A ready task leaves its place in the list behind, counted in `removed`, instead of a search through the list.
local id = ARGV[1]
if redis.call('HEXISTS', KEYS[2], id) == 0 then return 0 end
if redis.call('HEXISTS', KEYS[5], id) == 1 then
  local fresh = redis.call('HSET', KEYS[12], id, 1)
  redis.call('PUBLISH', ARGV[4], 'cancel ' .. id)
  return fresh
end
if redis.call('ZREM', KEYS[6], id) == 0 then redis.call('HINCRBY', KEYS[9], 'removed', 1) end
redis.call('HDEL', KEYS[2], id)
redis.call('HDEL', KEYS[3], id)
redis.call('SET', KEYS[14], ARGV[2], 'PX', ARGV[3])
redis.call('HINCRBY', KEYS[9], 'finished', 1)
redis.call('HINCRBY', KEYS[9], 'cancelled', 1)
if redis.call('SREM', KEYS[13], id) == 1 then redis.call('PUBLISH', ARGV[5], id) end
return 1

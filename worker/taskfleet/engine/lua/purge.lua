-- Drop waiting work (ready and delayed), a bounded number at a time; running tasks are left alone.
-- KEYS  1-13 of the queue (engine/keys.py)
-- ARGV  1 how many at most
-- REPLY {dropped, left}
local limit = tonumber(ARGV[1])
local ids = redis.call('LPOP', KEYS[1], limit) or {}
local listed = #ids
if #ids < limit then
  local later = redis.call('ZRANGE', KEYS[6], 0, limit - #ids - 1)
  if #later > 0 then redis.call('ZREM', KEYS[6], unpack(later)) end
  for i = 1, #later do ids[#ids + 1] = later[i] end
end
local dropped = 0
if #ids > 0 then
  dropped = redis.call('HDEL', KEYS[2], unpack(ids))
  redis.call('HDEL', KEYS[3], unpack(ids))
  local removed = #ids - dropped
  if removed > 0 and listed > 0 then redis.call('HINCRBY', KEYS[9], 'removed', -removed) end
  redis.call('HINCRBY', KEYS[9], 'finished', dropped)
end
return {dropped, redis.call('LLEN', KEYS[1]) + redis.call('ZCARD', KEYS[6])}

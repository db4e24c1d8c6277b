-- needs: keys queue/unpacking queue/inputs
-- Bring held dead letters back (discard_dead.lua). A letter stays away when its id is in use again.
-- KEYS  the queue's (redis/keys.py), held letters of this job
-- ARGV  1 maximal number
-- REPLY {restored, taken from the held ones, left}
local held_key = KEYS[last_key + 1]
local restored, taken, bytes = 0, 0, 0
while taken < tonumber(ARGV[1]) and bytes < MOST_BYTES do
  local record = redis.call('LPOP', held_key)
  if not record then break end
  taken, bytes = taken + 1, bytes + #record
  local id, died, packed = unpack(unpacked(record) or {}, 1, 3)
  if text_or_nil(id) and tonumber(died) and text_or_nil(packed)
    and redis.call('HEXISTS', letter, id) + redis.call('HEXISTS', task, id) == 0 then
    redis.call('HSET', letter, id, packed)
    redis.call('ZADD', dead, died, id)
    restored = restored + 1
  end
end
return {restored, taken, redis.call('LLEN', held_key)}

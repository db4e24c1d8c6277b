-- Put dead letters back to the tail of their queue, with all their attempts before them.
-- KEYS  1-13 of the queue (engine/keys.py)
-- ARGV  1 activity channel  2 queue name  3 how many at most  4 messagepack list of ids (empty: the oldest)
-- REPLY {moved, left}
local ids = cmsgpack.unpack(ARGV[4])
if #ids == 0 then ids = redis.call('ZRANGE', KEYS[7], 0, tonumber(ARGV[3]) - 1) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = redis.call('LLEN', KEYS[1])
local moved = 0
for i = 1, math.min(#ids, tonumber(ARGV[3])) do
  local packed = redis.call('HGET', KEYS[8], ids[i])
  if packed then
    local record = cmsgpack.unpack(packed)
    redis.call('HDEL', KEYS[8], ids[i])
    redis.call('ZREM', KEYS[7], ids[i])
    redis.call('HSET', KEYS[2], ids[i], record[5])
    -- The delivery number goes on from where it was: an outcome from before the funeral stays stale.
    redis.call('HSET', KEYS[3], ids[i], string.format('1:%d:0:%d', record[3], now))
    redis.call('RPUSH', KEYS[1], ids[i])
    moved = moved + 1
  end
end
if moved > 0 then
  redis.call('HINCRBY', KEYS[9], 'enqueued', moved)
  if redis.call('LLEN', KEYS[11]) == 0 then
    redis.call('RPUSH', KEYS[11], 1)
    redis.call('PEXPIRE', KEYS[11], 60000)
  end
  if before == 0 then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
end
return {moved, redis.call('ZCARD', KEYS[7])}

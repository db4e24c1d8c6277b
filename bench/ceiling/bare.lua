-- Acknowledge and claim, in one call, and nothing else: the work that redis/lua/step.lua makes Redis do for tasks that
-- succeed at their first delivery, without what it does for all the others.
-- KEYS  1 ready  2 task  3 lease  4 owner  5 delayed  6 meta  7 stat
-- ARGV  1 owner (worker incarnation)  2 slots to fill  3 lease_ms  4 messagepack list of ids that succeeded
-- REPLY {still ready, {id, blob, ...}}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token = ARGV[1] .. ':1'

if ARGV[4] ~= '' then
  local done = cmsgpack.unpack(ARGV[4])
  local tokens = redis.call('HMGET', KEYS[4], unpack(done))
  local ended = {}
  for i = 1, #done do
    if tokens[i] == token then ended[#ended + 1] = done[i] end
  end
  if #ended > 0 then
    redis.call('ZREM', KEYS[3], unpack(ended))
    redis.call('HDEL', KEYS[4], unpack(ended))
    redis.call('HDEL', KEYS[2], unpack(ended))
    redis.call('HDEL', KEYS[6], unpack(ended))
    redis.call('HINCRBY', KEYS[7], 'finished', #ended)
  end
end

redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 100)
redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, 100)

local claimed = {}
local ids = redis.call('LPOP', KEYS[1], tonumber(ARGV[2]))
if ids then
  local blobs = redis.call('HMGET', KEYS[2], unpack(ids))
  local leases, tokens, ends = {}, {}, now + ARGV[3]
  for i = 1, #ids do
    leases[2 * i - 1] = ends
    leases[2 * i] = ids[i]
    tokens[2 * i - 1] = ids[i]
    tokens[2 * i] = token
    claimed[2 * i - 1] = ids[i]
    claimed[2 * i] = blobs[i]
  end
  redis.call('ZADD', KEYS[3], unpack(leases))
  redis.call('HSET', KEYS[4], unpack(tokens))
end

redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
return {redis.call('LLEN', KEYS[1]), claimed}

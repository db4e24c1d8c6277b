-- Remove a schedule. Tasks that it has already added stay.
-- KEYS  1 schedules  2 ticks  3 ticked
-- ARGV  1 name
-- REPLY {} when there was none, else {spec, next tick in ms or -1}
local packed = redis.call('HGET', KEYS[1], ARGV[1])
if not packed then return {} end
local tick = redis.call('ZSCORE', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return {packed, tick and tonumber(tick) or -1}

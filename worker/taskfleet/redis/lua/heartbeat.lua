-- needs: queue/clock
-- Record that a worker is alive, and read whether it is cordoned.
-- KEYS  1 workers (id → last heartbeat, ms)  2 this worker's hash  3 its cordon key  4 the name of its incarnation
--       5 its cordon by a person
-- ARGV  1 worker id  2 ttl_ms  3 ms that the name of the incarnation is kept  4 … field, value, …
-- REPLY how many cordons it has: 0, 1 or 2
local silent = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2] * 10, 'LIMIT', 0, 1000)
redis.call('ZREM', KEYS[1], '', unpack(silent))
redis.call('ZADD', KEYS[1], now, ARGV[1])  -- permitted without free memory after a write that needs none
redis.call('HSET', KEYS[2], unpack(ARGV, 4))
redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 10)
return redis.call('EXISTS', KEYS[3], KEYS[5])

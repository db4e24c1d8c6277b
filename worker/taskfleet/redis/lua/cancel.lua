-- needs: keys queue/counters queue/records queue/signals queue/ending
-- Cancel one task: a waiting task at once, a running task through its worker.
-- KEYS  the queue's (redis/keys.py); its result key
-- ARGV  1 id  2 result record  3 ttl_ms  4 control channel  5 done channel  6 reason, for the tasks that wait for it
-- REPLY {1 when its state changed, else 0; signals in the outbox}
local id = ARGV[1]
redis.call('HDEL', owner, '')  -- after a write that needs no memory, a Redis that is out of memory permits the others
if redis.call('HEXISTS', task, id) == 0 then return {0, 0} end
if redis.call('HEXISTS', owner, id) == 1 then
  local fresh = redis.call('HSET', cancel, id, 1)
  redis.call('PUBLISH', ARGV[4], 'cancel ' .. id)
  return {fresh, 0}
end
end_waiting(id, tag_of(id), KEYS[last_key + 1], ARGV[2], ARGV[3], ARGV[5], ARGV[6])
write_counts()
return {1, signals_left()}

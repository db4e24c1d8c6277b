-- needs: keys queue/counters queue/records queue/signals queue/ending
-- Tell a waiting task how another task ended. A signal that is delivered twice counts once.
-- KEYS  the queue's of the waiting task (redis/keys.py); its result key
-- ARGV  1 id  2 position  3 state in which the other task ended  4 its result record, or the reason
--       5 record of this task if the signal cancels it  6 ttl_ms  7 done channel
--       8 reason for the tasks that wait for this one  9 activity channel  10 queue name
-- REPLY signals in the outbox of this queue
local id = ARGV[1]
if ARGV[3] == 'succeeded' then
  resolve(id, ARGV[2], ARGV[4])
  write_counts()
  redis.call('PUBLISH', ARGV[9], ARGV[10])
elseif redis.call('HEXISTS', gather, id) == 1 then
  end_waiting(id, tag_of(id), KEYS[last_key + 1], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
  write_counts()
end
return signals_left()

-- with: transitions
-- Drop dead letters, a bounded number at a time, and what had been passed on to their tasks.
-- KEYS  the queue's (engine/keys.py)
-- ARGV  1 how many at most
-- REPLY {dropped, left, jobs that are left to drain.lua}
redis.call('HDEL', owner, '')  -- after a write that takes no memory, a Redis without any permits the others
local ids = redis.call('ZRANGE', dead, 0, ARGV[1] - 1)
if #ids > 0 then
  drop_letters_inputs(ids)
  redis.call('ZREM', dead, unpack(ids))
  redis.call('HDEL', letter, unpack(ids))
end
return {#ids, redis.call('ZCARD', dead), redis.call('LLEN', jobs)}

-- needs: keys queue/inputs
-- Delete dead letters, a bounded number at a time, and the results that had been passed on to their tasks.
-- KEYS  the queue's (redis/keys.py)
-- ARGV  1 maximal number
-- REPLY {deleted, left, jobs that are left to drain.lua}
redis.call('HDEL', owner, '')  -- after a write that needs no memory, a Redis that is out of memory permits the others
-- Freeing memory takes time, too.
local MOST_FREED = 50000000
local ids, bytes = {}, 0
for _, id in ipairs(redis.call('ZRANGE', dead, 0, ARGV[1] - 1)) do
  bytes = bytes + redis.call('HSTRLEN', letter, id)
  if bytes > MOST_FREED and #ids > 0 then break end
  ids[#ids + 1] = id
end
if #ids > 0 then
  drop_inputs_of_letters(ids)
  redis.call('ZREM', dead, unpack(ids))
  redis.call('HDEL', letter, unpack(ids))
end
return {#ids, redis.call('ZCARD', dead), redis.call('LLEN', jobs)}

-- needs: keys queue/counters queue/records queue/signals queue/ending
-- Delete waiting tasks, a bounded number at a time, and signal the tasks that wait for them. Running tasks are left
-- alone.
-- KEYS  the queue's (redis/keys.py)
-- ARGV  1 maximal number  2 reason for the tasks that wait for a deleted one  3 done channel
-- REPLY {deleted, left, signals in the outbox}
local limit = tonumber(ARGV[1])
local ids = redis.call('LPOP', ready, limit) or {}
local listed = #ids
local members = {fair, delayed, blocked, parked}
local found = {}
for _, key in ipairs(members) do
  if #ids < limit then
    found[key] = redis.call('ZRANGE', key, 0, limit - #ids - 1)
    for _, member in ipairs(found[key]) do
      ids[#ids + 1] = key == parked and string.match(member, '%z%d+%z(.*)$') or member
    end
  end
end
local dropped, missing = 0, 0
for i, id in ipairs(ids) do
  local t = tag_of(id)
  if redis.call('HDEL', task, id) == 1 then
    dropped = dropped + 1
    if i > listed then withdraw(id, t) end
  elseif i <= listed then
    missing = missing + 1
  else
    redis.call('HDEL', gather, id)
  end
  forget(id)
  release(id, t, 'cancelled', ARGV[2])
  announce_end(id, ARGV[3])
end
-- Members without a task are removed too, so that a purge comes to its end.
for key, some in pairs(found) do
  if #some > 0 then redis.call('ZREM', key, unpack(some)) end
end
if missing > 0 then add('removed', -missing) end
if dropped > 0 then
  add('finished', dropped)
  add('unrun', dropped)
end
write_counts()
local left = redis.call('LLEN', ready)
for _, key in ipairs(members) do left = left + redis.call('ZCARD', key) end
return {dropped, left, signals_left()}

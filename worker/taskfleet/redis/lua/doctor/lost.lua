-- needs: keys queue/records queue/unique_keys doctor/faults
-- Which of these tasks are in no structure, or more than once in the ready list. It changes nothing.
-- KEYS  the queue's (redis/keys.py); schedules; ticks; ticked
-- ARGV  1 messagepack list of ids
-- REPLY {number of examined ids, {code, id, evidence, ...}}: the caller calls again for the rest
-- The whole list is looked through for an id: one is examined in a call where the list is long.
local MOST_COMPARED = 200000
local ids, compared, looked = cmsgpack.unpack(ARGV[1]), 0, 0
local length = redis.call('LLEN', ready)
for i, id in ipairs(ids) do
  if looked > 0 and compared + length > MOST_COMPARED then break end
  looked, compared, member_now = i, compared + length, id
  if lives(id) and not has(owner, id) and not has(gather, id) and #places_of(id, tag_of(id)) == 0 then
    local found = redis.call('LPOS', ready, id, 'COUNT', 2)
    if #found == 0 then fault('task-lost') elseif #found > 1 then fault('ready-twice') end
  end
end
return {looked, faults}

-- needs: keys queue/records queue/unique_keys doctor/faults
-- Look at a page of the ready list, from its tail to its head. It changes nothing.
-- KEYS  the queue's (redis/keys.py); schedules; ticks; ticked
-- ARGV  1 last place of the page, -1 for the tail  2 number of places
-- REPLY {its first place, {id, ...}, {code, id, evidence, ...}, ids without a task, a text that changes with the list}
-- Claims take from the head, which moves all others towards it: the next page, nearer to the head, misses none of them.
local last = tonumber(ARGV[1])
if last < 0 then last = redis.call('LLEN', ready) - 1 end
local first = math.max(0, last - tonumber(ARGV[2]) + 1)
local ids, gone = last >= 0 and redis.call('LRANGE', ready, first, last) or {}, 0
for _, id in ipairs(ids) do
  member_now = id
  if not lives(id) then
    gone = gone + 1
  else
    local places = places_of(id, tag_of(id))
    if #places > 0 then
      fault('task-twice', 'ready and ' .. table.concat(places, ' and '))
    elseif has(gather, id) then
      fault('task-twice', 'ready and blocked')
    end
  end
end
return {first, ids, faults, gone, stamp_of_line(), removed_count()}

-- needs: keys queue/records queue/unique_keys doctor/faults doctor/anchor
-- Look at a page of the ready list, from its tail to its head, and at all that has come to its tail since the last page.
-- It changes nothing.
-- KEYS  the queue's (redis/keys.py); schedules; ticks; ticked
-- ARGV  1 id at the tail at the last page, '' at first  2 its history  3 number of looked at places up to it  4 places
-- REPLY {1 when the look must begin again, id at the tail, its history, looked at places up to it, places before them,
--       {id, ...}, number of those in the page, {code, id, evidence, ...}, ids without a task, a text that changes with the
--       list, counted ids without a task}
-- Claims take from the head, and all others are added at an end: the looked at places stay together, and are exactly the
-- last ones after each call.
local length = redis.call('LLEN', ready)
local from, to = looked_at(ARGV[1], ARGV[2], tonumber(ARGV[3]), length)
if not from then return {1, '', '', 0, 0, {}, 0, {}, 0, '', 0} end
local first = math.max(0, from - tonumber(ARGV[4]))
local ids, gone = {}, 0
local function look(range)
  for _, id in ipairs(range) do
    ids[#ids + 1], member_now = id, id
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
end
if first < from then look(redis.call('LRANGE', ready, first, from - 1)) end
local before_tail = #ids
if to < length then look(redis.call('LRANGE', ready, to, -1)) end
local tail = redis.call('LINDEX', ready, -1) or ''
return {
  0, tail, redis.call('HGET', meta, tail) or '', length - first, first, ids, before_tail, faults, gone, stamp_of_line(),
  removed_count(),
}

-- needs: keys queue/clock queue/counters queue/inputs step
-- Make a task with the tag `t`, if any, a dead letter: (state, attempt, delivery, died_ms, envelope, error record, its
-- keys, its inputs, the errors of its earlier attempts if there were any).
-- A letter has all data that requeue_dead.lua needs to run the task again.
local buried_bytes = 0

local function bury(id, t, state, attempt, delivery, record)
  local blob = unwrapped(redis.call('HGET', task, id) or '')
  local kept, passed_on = '', ''
  if t and (t.l or t.f or t.u) then kept = cmsgpack.pack({l = t.l, f = t.f, u = t.u}) end
  if tagged then passed_on = redis.call('HGET', input, id) or '' end
  buried_bytes = buried_bytes + #blob + #passed_on
  local parts = {state, attempt, delivery, now, blob, record, kept, passed_on}
  parts[9] = redis.call('HGET', errors, id) or nil
  redis.call('HSET', letter, id, cmsgpack.pack(parts))
  redis.call('ZADD', dead, now, id)
  ends(id, state, record, t)
  add('failed', 1)
end

-- needs: keys queue/clock queue/counters queue/records
-- The structures that claims take from, `ready` and `fair`, and `parked`, where tasks wait for their limit key.
-- A task is in `task` and in exactly one of ready, fair, parked, delayed, blocked and lease, from enqueue.lua until its
-- outcome is recorded.

-- Whether this call may have changed which delayed task is the first.
local delayed_changed = false

-- Make a task ready for a claim. Fair keys take turns by virtual time (start-time fair queueing): the next task of a
-- key is one turn after its last one, but never before the current turn. While any task has a fair key, the tasks
-- without one share an empty key.
local function make_ready(id, t, head)
  local key = t and t.f
  if not key and not head and redis.call('EXISTS', fair) == 1 then key = '' end
  if key then
    local at = tonumber(redis.call('HGET', control, 'turn')) or 0
    if not head then
      at = math.max(at, tonumber(redis.call('ZSCORE', turns, key)) or 0) + 1
      redis.call('ZADD', turns, at, key)
    end
    redis.call('ZADD', fair, at, id)
  else
    redis.call(head and 'LPUSH' or 'RPUSH', ready, id)
  end
end

local function make_ready_at_tail(id, t, attempt, delivery, crashes)
  write_history(id, attempt, delivery, crashes, now)
  make_ready(id, t, false)
end

local function end_turns()
  redis.call('DEL', turns)
  redis.call('HDEL', control, 'turn')
end

-- A member of `parked` is limit key, NUL, 16 digits, NUL, id. All scores are 0, so a key's tasks are first in, first out.
local function park(id, t)
  t.p = string.format('%016d', count(control, 'parked', 1))
  redis.call('HSET', tag, id, cmsgpack.pack(t))
  redis.call('ZADD', parked, 0, t.l .. '\0' .. t.p .. '\0' .. id)
end

-- Make the first `n` parked tasks of a limit key ready, together at the head, so that they keep their order.
local function unpark(key, n)
  local members = redis.call('ZRANGEBYLEX', parked, '[' .. key .. '\0', '[' .. key .. '\0\255', 'LIMIT', 0, n)
  for i = #members, 1, -1 do
    local id = string.sub(members[i], #key + 19)
    redis.call('ZREM', parked, members[i])
    local t = tag_of(id)
    if t then  -- a member without a tag was written by another program
      t.p = nil
      redis.call('HSET', tag, id, cmsgpack.pack(t))
      make_ready(id, t, true)
    end
  end
  return #members
end

-- Whether any task of a limit key is parked.
local function is_parked(key)
  return redis.call('ZRANGEBYLEX', parked, '[' .. key .. '\0', '[' .. key .. '\0\255', 'LIMIT', 0, 1)[1] ~= nil
end

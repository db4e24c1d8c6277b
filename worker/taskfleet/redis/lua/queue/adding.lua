-- needs: keys queue/clock queue/counters queue/ready queue/unique_keys queue/inputs
-- Adding one task that may have a tag or wait for other tasks, and the effect of its unique key.

-- The task of a unique key that keeps a new task out (mode k), or that a new task replaces: the newest waiting one. A
-- running task is not replaced, so a new task follows it.
local function in_the_way(holder, key, mode)
  if not holder or mode == 'k' then return holder end
  return follower_of(key) or redis.call('HEXISTS', owner, holder) == 0 and holder or nil
end

-- The due time of a waiting task, for the task that replaces it: 0 for at once, nil when its workflow decides.
local function due_again(id, t)
  if redis.call('HEXISTS', gather, id) == 1 then return nil end
  return t and t.d or tonumber(redis.call('ZSCORE', delayed, id)) or 0
end

-- Add a task with its `more` (enqueue.lua). `due` is in Unix ms, 0 for at once; `follows` says that another task holds
-- its unique key. Returns whether it is ready.
-- The stamp before the envelope is the time when the task was accepted, from which the age of the head is computed.
local function put(id, envelope, more, due, follows)
  redis.call('HSET', task, id, struct.pack('>d', now) .. envelope)
  local t
  if more.u or more.l or more.f or more.n then
    t = {u = more.u, l = more.l, f = more.f, n = more.n}
    if follows then t.d = not more.w and due > now and due or 0 end
    redis.call('HSET', tag, id, cmsgpack.pack(t))
  end
  if more.u then redis.call('HSET', unique, follows and more.u .. '\0' or more.u, id) end
  if more.w then
    local pending, carried, drop_after_ms = unpack(more.w, 1, 3)
    block(id, pending, carried, math.max(0, due - at_least_now), drop_after_ms)
    add('deferred', 1)
  elseif due > now or follows then
    redis.call('ZADD', delayed, due > now and due or now + AGAIN_MS, id)
    if due > now then add('deferred', 1) end
  else
    make_ready(id, t, false)
    return true
  end
  return false
end

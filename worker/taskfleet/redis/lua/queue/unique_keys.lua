-- needs: keys queue/clock queue/counters queue/records queue/ready queue/wake
-- Unique keys. `unique` has for each key the id of its holder and, under the key and a NUL, the id of its follower: the
-- task that becomes the holder when the holder has ended. A follower waits in `delayed` or `blocked`.

-- After this time (ms) a follower checks again, in case its holder has ended unnoticed.
local AGAIN_MS = 30000

local function lives(id) return id and redis.call('HEXISTS', task, id) == 1 end

-- Make the follower of a unique key its holder, and return its id.
local function promote(key)
  local id = redis.call('HGET', unique, key .. '\0')
  if not id then return nil end
  redis.call('HDEL', unique, key .. '\0')
  if not lives(id) then return nil end
  redis.call('HSET', unique, key, id)
  local t = tag_of(id)
  local due = t and t.d or 0
  if t then
    t.d = nil
    redis.call('HSET', tag, id, cmsgpack.pack(t))
  end
  if due > now then
    redis.call('ZADD', delayed, 'XX', due, id)
    delayed_changed = true
  elseif redis.call('ZREM', delayed, id) == 1 then
    delayed_changed = true
    if due > 0 then add('deferred', -1) end
    make_ready_at_tail(id, t, 1, 0, 0)
    call_a_worker()
  end
  return id
end

-- The holder of a unique key. A holder that is gone without an end (FLUSHALL, a replica that was behind, a worker of an
-- older version) holds it no longer.
local function holder_of(key)
  local id = redis.call('HGET', unique, key)
  return lives(id) and id or promote(key)
end

local function follower_of(key)
  local id = redis.call('HGET', unique, key .. '\0')
  return lives(id) and id or nil
end

-- Whether another task holds this one's unique key. A key without a holder becomes this task's.
local function must_follow(id, t)
  if not (t and t.u) then return false end
  local holder = holder_of(t.u)
  if not holder then redis.call('HSET', unique, t.u, id) end
  return holder and holder ~= id
end

-- A follower counts as having become ready when its own time comes, and only then.
local function follow(id, t)
  if t.d ~= 0 then
    t.d = 0
    redis.call('HSET', tag, id, cmsgpack.pack(t))
  end
  redis.call('HSETNX', unique, t.u .. '\0', id)
  redis.call('ZADD', delayed, now + AGAIN_MS, id)
  delayed_changed = true
end

-- A task that is due becomes ready, unless another task holds its unique key.
local function come_due(id, t, attempt, delivery, crashes)
  if must_follow(id, t) then follow(id, t) else make_ready_at_tail(id, t, attempt, delivery, crashes) end
end

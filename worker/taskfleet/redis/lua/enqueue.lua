-- with: transitions
-- Add tasks to one queue; sent twice, it adds them once.
-- KEYS  the queue's (redis/keys.py); the key of the sender's last call; the result key of each task to be replaced
-- ARGV  1 activity channel  2 queue name  3 max_length (0 = unlimited)  4 tasks that the whole call adds
--       5 messagepack list of (id, envelope, delay_ms, eta_ms[, more]): eta_ms is a wall-clock time, or 0
--       6 number of this call among the sender's, ever greater  7 done channel
--       more: u unique key, m its mode (k keep, r replace, d debounce), x the id that it replaces, r the record of that
--       one's end, t its ttl_ms; l limit key, f fair key, n who waits for it (see transitions), w what it waits for:
--       (pending, carried, ms until it is dropped unless confirmed: 0 = it is)
-- REPLY {added, {position, holder, ...}, signals in the outbox}, or {-1, waiting} when the queue would hold more than
--       max_length. A holder is, in mode k, the task that has the unique key: it is kept. Else it is the newest of the key
--       that waits: the caller names it in x and comes again.
-- A task is in `task` and in exactly one of ready, fair, parked, delayed, blocked, lease, from here until its outcome
-- is recorded.
local last_call = KEYS[last_key + 1]
-- Also of a call that was not sent before: its second sending may have overtaken it, on another connection.
local known = redis.call('GET', last_call)
known = known and unpacked(known)
if known then
  if known[1] == ARGV[6] then return known[2] end
  if (tonumber(known[1]) or 0) > tonumber(ARGV[6]) then return {0, {}} end  -- late, and nobody waits for the answer
end

local function answered(reply)
  redis.call('SET', last_call, cmsgpack.pack({ARGV[6], reply}), 'PX', 120000)
  return reply
end

local items = cmsgpack.unpack(ARGV[5])
local ids, plain, large = {}, true, false
for i = 1, #items do
  ids[i] = items[i][1]
  if items[i][5] then plain = false end
  if #items[i][2] > 10000 then large = true end
end
local present = redis.call('HMGET', task, unpack(ids))

-- Of the tasks of a unique key, the newest that waits is replaced; one that runs is not, so the new one comes after it.
local function to_replace(holder, key)
  return follower_of(key) or redis.call('HEXISTS', owner, holder) == 0 and holder or nil
end

-- How many tasks find no room of their own necessary: they are kept out by another of their key, or take its place.
local function spared()
  local n, keys = 0, {}
  for i = 1, #items do
    local more = items[i][5]
    if more and more.u and not present[i] then
      local holder = holder_of(more.u)
      if keys[more.u] or holder and (more.m == 'k' or to_replace(holder, more.u)) then n = n + 1 end
      keys[more.u] = true
    end
  end
  return n
end

local limit = tonumber(ARGV[3])
local taking_turns = redis.call('EXISTS', fair) == 1
local nothing_ready = not taking_turns and redis.call('LLEN', ready) == 0
if limit > 0 then
  local fresh = 0
  for i = 1, #items do if not present[i] then fresh = fresh + 1 end end
  local without_room = plain and 0 or spared()
  fresh = fresh - without_room
  local waiting = redis.call('LLEN', ready) - (tonumber(redis.call('HGET', stat, 'removed')) or 0)
  for _, key in ipairs({fair, delayed, parked, blocked}) do waiting = waiting + redis.call('ZCARD', key) end
  if fresh > 0 and waiting + math.max(fresh, tonumber(ARGV[4]) - without_room) > limit then return answered({-1, waiting}) end
end

-- The stamp is when the task was accepted, by the clock of Redis: the age of the head is read from it.
local stamp = struct.pack('>d', now)
local seen, holders, added, ready_now, sooner = {}, {}, 0, false, false

local function due_of(item)
  if item[4] ~= 0 then return item[4] end
  return item[3] > 0 and at_least_now + item[3] or 0
end

-- Whether the unique key is another's; what is to be replaced, is. Also the due time that the new one takes over, and
-- whether it comes after the holder.
local function taken(item, position, more, replaced_key, due)
  local holder = holder_of(more.u)
  if not holder then return false, due, false end
  local older = holder
  if more.m ~= 'k' then
    older = to_replace(holder, more.u)
    if not older then return false, due, true end
  end
  if more.m == 'k' or more.x ~= older then
    holders[#holders + 1] = position
    holders[#holders + 1] = older
    return true, due, false
  end
  local t = tag_of(older)
  if more.m == 'r' then due = due_again(older, t) or due end
  end_waiting(older, t, replaced_key, more.r, more.t, ARGV[7], 'replaced by task ' .. item[1])
  return false, due, older ~= holder
end

if plain and not taking_turns then
  -- The usual case, in few commands.
  local blobs, push, later = {}, {}, {}
  for i = 1, #items do
    local id = ids[i]
    if not present[i] and not seen[id] then
      seen[id] = true
      added = added + 1
      blobs[#blobs + 1] = id
      blobs[#blobs + 1] = stamp .. items[i][2]
      local due = due_of(items[i])
      if due > now then
        later[#later + 1] = due
        later[#later + 1] = id
      else
        push[#push + 1] = id
      end
    end
  end
  if added > 0 then redis.call('HSET', task, unpack(blobs)) end
  if #push > 0 then
    redis.call('RPUSH', ready, unpack(push))
    ready_now = true
  end
  if #later > 0 then
    local head = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
    redis.call('ZADD', delayed, unpack(later))
    -- Idle workers sleep until the first due time that they know of: tell one about an earlier one.
    sooner = not head or tonumber(redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]) < tonumber(head)
  end
else
  local next_replaced = last_key + 2
  for i = 1, #items do
    local item, id, more = items[i], ids[i], items[i][5] or {}
    local due, replaced_key, follows = due_of(item), nil, false
    if more.x then replaced_key = KEYS[next_replaced]; next_replaced = next_replaced + 1 end
    local refused = present[i] or seen[id]
    if not refused and more.u then refused, due, follows = taken(item, i - 1, more, replaced_key, due) end
    if not refused then
      seen[id] = true
      added = added + 1
      redis.call('HSET', task, id, stamp .. item[2])
      local t
      if more.u or more.l or more.f or more.n then
        t = {u = more.u, l = more.l, f = more.f, n = more.n}
        if follows then t.d = more.w and 0 or due end
        redis.call('HSET', tag, id, cmsgpack.pack(t))
      end
      if more.u then redis.call('HSET', unique, follows and more.u .. '\0' or more.u, id) end
      if more.w then
        block(id, more.w[1], more.w[2], math.max(0, due - at_least_now), more.w[3])
      elseif due > now or follows then
        redis.call('ZADD', delayed, due > now and due or now + AGAIN_MS, id)
        sooner = true
      else
        place(id, t, false)
        ready_now = true
      end
    end
  end
end

if added > 0 then add('enqueued', added) end
if large then redis.call('HSET', control, 'large', 1) end  -- claims look at the size of each from now on
write_counts()
if ready_now or sooner then call_a_worker() end
if nothing_ready and added > 0 then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
return answered({added, holders, plain and 0 or signals_left()})

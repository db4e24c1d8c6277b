-- The moves that several scripts make between the structures of one queue. Prepended to the scripts that ask for it.
-- A task's tag (a messagepack map, only for tasks that have one): u unique key, l limit key, f fair key, p its place
-- in `parked`, n the tasks that wait for it: a list of (queue, id, position, 1 to carry the result), d when it is due
-- by itself while another task has its unique key.
-- `unique` has for each key its holder and, under the key and a NUL, the one that comes after it.
-- A task that many wait for has more of them in `edges`: fields id:1, id:2, … of at most EDGES each; t.e is how many
-- fields. What no single call may do at once stands in `jobs`, which drain.lua works off.
local EDGES = 500
local MOST_TOLD = 300  -- edges in one call
local GATHERED = 1000  -- results that a call may handle at once
local MOST_BYTES = 2000000  -- that one call copies: of payloads, inputs, letters
local AGAIN_MS = 30000  -- how often one that comes after another looks whether that has ended unheard
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at_least_now = time[1] * 1000 + math.ceil(time[2] / 1000)  -- what delays count from: they are never too short
local here = string.match(KEYS[1], '{(.-)}:ready$')
local counts = {}
local delayed_changed = false

local function add(name, n) counts[name] = (counts[name] or 0) + n end

-- A number that is none any more, because others have written there, begins anew.
local function count(key, field, n)
  local value = redis.pcall('HINCRBY', key, field, n)
  if type(value) == 'number' then return value end
  if not string.find(value.err, 'integer', 1, true) and not string.find(value.err, 'overflow', 1, true) then error(value) end
  redis.call('HSET', key, field, n)
  return n
end

local function write_counts()
  for name, n in pairs(counts) do count(stat, name, n) end
end

local function parsed_meta(value)
  if not value then return 1, 0, 0, 0 end
  local attempt, delivery, crashes, since = string.match(value, '^(%d+):(%d+):(%d+):(%d+)$')
  if not attempt then return 1, 0, 0, 0 end  -- none of ours has written it: no reason to stop the queue
  return tonumber(attempt), tonumber(delivery), tonumber(crashes), tonumber(since)
end

local function read_meta(id) return parsed_meta(redis.call('HGET', meta, id)) end

local function meta_text(attempt, delivery, crashes, since)
  return string.format('%d:%d:%d:%d', attempt, delivery, crashes, since)
end

local function write_meta(id, attempt, delivery, crashes, since)
  redis.call('HSET', meta, id, meta_text(attempt, delivery, crashes, since))
end

-- The map or list in `packed`; nil for what none of ours has packed.
local function unpacked(packed)
  local sound, value = pcall(cmsgpack.unpack, packed)
  return sound and type(value) == 'table' and value or nil
end

local function text_or_nil(value) return type(value) == 'string' and value or nil end
local function number_or_nil(value) return type(value) == 'number' and value or nil end

-- The tag in `packed`, each part of the type that it has to have; a part that others have written is none.
local function sound_tag(packed)
  local t = unpacked(packed)
  if not t then return nil end
  t.u, t.l, t.f, t.p = text_or_nil(t.u), text_or_nil(t.l), text_or_nil(t.f), text_or_nil(t.p)
  t.d, t.e = number_or_nil(t.d), number_or_nil(t.e)
  if not t.l then t.p = nil end
  if type(t.n) ~= 'table' then t.n = nil end
  return t
end

local function tag_of(id)
  local packed = redis.call('HGET', tag, id)
  return packed and sound_tag(packed) or nil
end

local function call_a_worker()
  if redis.call('LLEN', wake) == 0 then
    redis.call('RPUSH', wake, 1)
    redis.call('PEXPIRE', wake, 60000)
  end
end

-- Put a task where claims take from. Fair keys take turns by virtual time (start-time fair queueing): each key's next
-- task stands one after its last, but never before the turn that is being served. While any wait, tasks without a
-- key are one key more.
local function place(id, t, head)
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

local function end_turns()
  redis.call('DEL', turns)
  redis.call('HDEL', control, 'turn')
end

local function place_at_tail(id, t, attempt, delivery, crashes)
  write_meta(id, attempt, delivery, crashes, now)
  place(id, t, false)
end

-- Tasks of one limit key that wait for its slots or tokens: first in, first out.
local function park(id, t)
  t.p = string.format('%016d', count(control, 'parked', 1))
  redis.call('HSET', tag, id, cmsgpack.pack(t))
  redis.call('ZADD', parked, 0, t.l .. '\0' .. t.p .. '\0' .. id)
end

local function unpark(key, n)
  local members = redis.call('ZRANGEBYLEX', parked, '[' .. key .. '\0', '[' .. key .. '\0\255', 'LIMIT', 0, n)
  for i = #members, 1, -1 do
    local id = string.sub(members[i], #key + 19)
    redis.call('ZREM', parked, members[i])
    local t = tag_of(id)
    if t then  -- else nobody of ours has parked it
      t.p = nil
      redis.call('HSET', tag, id, cmsgpack.pack(t))
      place(id, t, true)
    end
  end
  return #members
end

-- A lease of a task with a limit key is gone, and with it the slot. Those that wait for one come in together, so that
-- they keep their order.
local freed, freed_keys = {}, {}

local function free_slot(t)
  if not (t and t.l) then return end
  if count(slots, t.l, -1) <= 0 then redis.call('HDEL', slots, t.l) end
  if not freed[t.l] then freed_keys[#freed_keys + 1] = t.l end
  freed[t.l] = (freed[t.l] or 0) + 1
end

local function let_in()
  for _, key in ipairs(freed_keys) do unpark(key, freed[key]) end
end

local function lives(id) return id and redis.call('HEXISTS', task, id) == 1 end

-- The task that comes after the holder of a unique key becomes its holder.
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
    place_at_tail(id, t, 1, 0, 0)
    call_a_worker()
  end
  return id
end

-- The task that has a unique key. One that is gone without an ending (FLUSHALL, a replica that was behind, a worker of
-- an older version) has nothing any more.
local function holder_of(key)
  local id = redis.call('HGET', unique, key)
  return lives(id) and id or promote(key)
end

-- The task that comes after the holder.
local function follower_of(key)
  local id = redis.call('HGET', unique, key .. '\0')
  return lives(id) and id or nil
end

-- Whether the task has to wait because another has its unique key.
local function must_follow(id, t)
  if not (t and t.u) then return false end
  local holder = holder_of(t.u)
  if not holder then redis.call('HSET', unique, t.u, id) end
  return holder and holder ~= id
end

local function wait_for_key(id, t)
  if not t.d then
    t.d = 0
    redis.call('HSET', tag, id, cmsgpack.pack(t))
  end
  redis.call('HSETNX', unique, t.u .. '\0', id)
  redis.call('ZADD', delayed, now + AGAIN_MS, id)
  delayed_changed = true
end

-- A task whose time has come is placed, unless its unique key is another's.
local function place_due(id, t, attempt, delivery, crashes)
  if must_follow(id, t) then wait_for_key(id, t) else place_at_tail(id, t, attempt, delivery, crashes) end
end

-- When a task that waits is due, for the one that takes its place: 0 at once, nil when that is for others to say.
local function due_again(id, t)
  if redis.call('HEXISTS', gather, id) == 1 then return nil end
  return t and t.d or tonumber(redis.call('ZSCORE', delayed, id)) or 0
end

-- A task waits for `pending` others; `carried` of them pass their results on.
local function block(id, pending, carried, delay_ms, unless)
  redis.call('HSET', gather, id, string.format('%d:%d:%d:%d', pending, pending, carried, delay_ms))
  redis.call('ZADD', blocked, unless > 0 and now + unless or '+inf', id)
end

-- The fields of `gather` for the first `n` positions of a task, a thousand at a time.
local function each_thousand(id, n, visit)
  for first = 0, n - 1, 1000 do
    local fields = {}
    for position = first, math.min(first + 1000, n) - 1 do fields[#fields + 1] = id .. ':' .. position end
    visit(fields)
  end
end

-- The values that have come for a task are of no use any more: they go a few at a time.
local function sweep(id, total)
  redis.call('HSET', edges, id .. '\0', 0)
  redis.call('RPUSH', jobs, cmsgpack.pack({'sweep', id, total}))
end

local function drop_gathered(id, total)
  redis.call('ZREM', blocked, id)
  redis.call('HDEL', gather, id)
  if total > GATHERED then return sweep(id, total) end
  each_thousand(id, total, function(fields) redis.call('HDEL', gather, unpack(fields)) end)
end

-- A task that only workers who know of `edges` and of paged inputs may run: to others its envelope is of a newer
-- version, and goes back.
local WIDE = '\146\004\198'

local function wrap(id)
  local blob = redis.call('HGET', task, id)
  if blob and #blob >= 8 and string.sub(blob, 9, 11) ~= WIDE then
    local head = string.sub(blob, 1, 8) .. WIDE .. struct.pack('>I4', #blob - 8)
    redis.call('HSET', task, id, head .. string.sub(blob, 9))
  end
end

local function unwrapped(blob)
  if string.sub(blob, 9, 11) ~= WIDE then return blob end
  return string.sub(blob, 1, 8) .. string.sub(blob, 16)
end

-- Whether the results for a task are too much to be copied by one call: then they stay in `gather`, `input` says how
-- many, and whoever claims the task reads them page by page.
local function is_wide(id, carried)
  if carried > GATHERED then return true end
  local bytes = 0
  for position = 0, carried - 1 do bytes = bytes + redis.call('HSTRLEN', gather, id .. ':' .. position) end
  return bytes > MOST_BYTES
end

local function paged(passed_on)
  local total = passed_on and string.match(passed_on, '^[\160-\191]%d+ of (%d+) in pages$')
  return tonumber(total)
end

-- (pending, total, carried, delay in ms) in a record of `gather`; nothing when none of ours has written it.
local MOST_GATHERED = 10000000
local function parsed_gather(record)
  local pending, total, carried, delay = string.match(record, '^(%d+):(%d+):(%d+):(%d+)$')
  pending, total, carried, delay = tonumber(pending), tonumber(total), tonumber(carried), tonumber(delay)
  if not pending or math.max(total, carried) > MOST_GATHERED then return nil end
  return pending, total, carried, delay
end

-- One of the tasks that `id` waits for has succeeded. Told twice, it counts once.
local function resolve(id, position, value)
  local record = redis.call('HGET', gather, id)
  if not record or redis.call('HSETNX', gather, id .. ':' .. position, value) == 0 then return end
  local pending, total, carried, delay = parsed_gather(record)
  if not pending then return end
  pending = pending - 1
  if pending > 0 then
    redis.call('HSET', gather, id, string.format('%d:%d:%d:%d', pending, total, carried, delay))
    return
  end
  local wide = carried > 0 and is_wide(id, carried)
  if wide then
    redis.call('HSET', input, id, cmsgpack.pack(carried .. ' of ' .. total .. ' in pages'))
    wrap(id)
    redis.call('ZREM', blocked, id)
    redis.call('HDEL', gather, id)
  elseif carried > 0 then
    local values = {}
    each_thousand(id, carried, function(fields)
      for _, value in ipairs(redis.call('HMGET', gather, unpack(fields))) do values[#values + 1] = value end
    end)
    redis.call('HSET', input, id, cmsgpack.pack(values))
  end
  if not wide then drop_gathered(id, total) end
  local t = tag_of(id)
  if delay > 0 then
    if t and t.d then
      t.d = at_least_now + delay
      redis.call('HSET', tag, id, cmsgpack.pack(t))
    end
    redis.call('ZADD', delayed, at_least_now + delay, id)
    delayed_changed = true
  else
    place_due(id, t, 1, 0, 0)
  end
  call_a_worker()
end

-- Those that wait for a task are told how it ended, here or through the outbox. One that was to be given a result that
-- nobody has kept cannot run.
local told = 0

local function tell(id, edge, state, value)
  if type(edge) ~= 'table' or not (text_or_nil(edge[1]) and text_or_nil(edge[2]) and number_or_nil(edge[3])) then return end
  local sent = (state ~= 'succeeded' or edge[4] == 1) and value or ''
  if state == 'succeeded' and edge[4] == 1 and value == '' then
    state, sent = 'ended', 'its result is not kept (result_ttl=0)'
  end
  if state == 'succeeded' and edge[1] == here then
    resolve(edge[2], edge[3], sent)
  else
    redis.call('RPUSH', outbox, cmsgpack.pack({edge[1], edge[2], edge[3], id, state, sent}))
  end
end

local function tell_all(id, t, state, value)
  if not t.n then return end
  told = told + #t.n
  if not t.e and told <= MOST_TOLD and (#t.n == 1 or #t.n * #value <= MOST_BYTES) then
    for _, edge in ipairs(t.n) do tell(id, edge, state, value) end
  else
    redis.call('HSET', edges, id .. ':0', cmsgpack.pack(t.n), id, '0:0')
    redis.call('RPUSH', jobs, cmsgpack.pack({'tell', id, t.e or 0, state, value}))
  end
end

-- What stands to be told or done after this call, here and in other queues.
local function signals_left() return redis.call('LLEN', outbox) + redis.call('LLEN', jobs) end

-- The results that were passed on to a task are of no use any more; a dead letter keeps them.
local function drop_input(id, state)
  local passed_on = redis.call('HGET', input, id)
  if not passed_on then return end
  local total = paged(passed_on)
  if total and (state == 'failed' or state == 'dead') then return end
  redis.call('HDEL', input, id)
  if total then sweep(id, total) end
end

-- The letters of these go, and with them the results that were passed on to their tasks.
local function drop_letters_inputs(ids)
  if redis.call('EXISTS', input) == 0 then return end
  for i = 1, #ids do drop_input(ids[i], 'gone') end
end

-- A task has ended: its unique key goes to the one that comes after it, and those that wait for it are told.
local function release(id, t, state, value)
  drop_input(id, state)
  if not t then return end
  redis.call('HDEL', tag, id)
  if t.u then
    if redis.call('HGET', unique, t.u) == id then
      redis.call('HDEL', unique, t.u)
      promote(t.u)
    elseif redis.call('HGET', unique, t.u .. '\0') == id then
      redis.call('HDEL', unique, t.u .. '\0')
    end
  end
  tell_all(id, t, state, value)
end

local function is_parked(key)
  return redis.call('ZRANGEBYLEX', parked, '[' .. key .. '\0', '[' .. key .. '\0\255', 'LIMIT', 0, 1)[1] ~= nil
end

-- Take a task that waits out of wherever it waits.
-- A ready task leaves its place in the list behind, counted in `removed`, instead of a search through the list.
local function unplace(id, t)
  local record = redis.call('HGET', gather, id)
  if record then
    local _, total = parsed_gather(record)
    drop_gathered(id, total or 0)
    return
  elseif t and t.p then
    redis.call('ZREM', parked, t.l .. '\0' .. t.p .. '\0' .. id)
    return
  elseif redis.call('ZREM', fair, id) == 1 then
    if redis.call('EXISTS', fair) == 0 then end_turns() end
  elseif redis.call('ZREM', delayed, id) == 1 then
    return
  else
    add('removed', 1)
  end
  -- It may have been let in for a slot that came free: now that is somebody else's.
  if t and t.l and is_parked(t.l) then
    redis.call('ZADD', retry_at, now, t.l)
    call_a_worker()
  end
end

-- End a task that waits, recording `record` as its result.
local function end_waiting(id, t, result_key, record, ttl_ms, done_channel, reason)
  unplace(id, t)
  redis.call('HDEL', task, id)
  redis.call('HDEL', meta, id)
  redis.call('HDEL', progress, id)
  redis.call('SET', result_key, record, 'PX', ttl_ms)
  add('finished', 1)
  add('cancelled', 1)
  release(id, t, 'cancelled', reason)
  if redis.call('SREM', await, id) == 1 then redis.call('PUBLISH', done_channel, id) end
end

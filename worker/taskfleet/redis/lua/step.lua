-- with: transitions
-- Record outcomes and claim work, in one call: the heart of a worker.
-- KEYS  the queue's (redis/keys.py); the result keys of the outcomes that carry a result and keep it, in order
-- ARGV  1 owner (worker incarnation)  2 slots to fill  3 lease_ms  4 max_deliveries  5 takeover limit
--       6 dead letters kept  7 dead letters' ttl_ms  8 done channel  9 messagepack list of outcomes
--       10 rate limit (tasks per second, 0 = none)  11 its burst
--       12 busy_ms of 13 in all  13 messagepack list of ids: first deliveries that succeeded and keep no result
--       14 tasks that may run at once, 15 and per limit key (0 = any)  16 rate limit per limit key  17 its burst
--       An outcome is (id, delivery, code, busy_ms, result, ttl_ms, extra). Codes: s succeeded, x expired, c cancelled,
--       r retry (extra: delay_ms), n handed back unstarted or unfinished (extra: delay_ms), f failed, d dead (extra:
--       record). The result of r, n, f and d, and the extra of x, is what to record should the task have been cancelled
--       meanwhile. A result with ttl_ms 0 is not kept, only passed on to those that wait for it.
-- REPLY {now_ms, still claimable, ms to the next due task, lease end or token (-1 none), {stale ids},
--       {id, envelope, meta, ...}, {position among the claimed, packed results of those it waited for, ...},
--       signals in the outbox, 1 when Redis is out of memory and nothing is claimed,
--       {id, attempt, crashes, 1 when it is a dead letter now, start of its envelope, ...} of what was taken over,
--       {how many of ARGV 13 and 9 were looked at} when not all: nothing is claimed, and the rest is to be sent}
-- An outcome whose token (owner:delivery) is not the one in `owner` changes nothing. The lease, the token and the
-- payload of a claimed task stand in Redis before the worker sees it.

-- A write that changes nothing and that Redis refuses when it is out of memory, or is no master. Out of memory, a
-- script may do anything once it has written what takes none: outcomes are recorded then, and nothing is claimed.
local probe, memory_full = redis.pcall('ZADD', lease, 'XX', 0, ''), false
if type(probe) == 'table' and probe.err then
  if not string.find(probe.err, 'OOM', 1, true) then return probe end
  memory_full = true
  redis.call('HDEL', owner, '')
end

local me, wanted, lease_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local first_token = me .. ':1'
-- Most queues have no tags, turns, limits per key or workflows: one question spares all others.
local tagged = redis.call('EXISTS', tag, fair, parked, blocked, input, outbox, jobs, arrivals, retry_at) > 0

-- The first lease to end and the first delayed task, read once: mostly nothing is due, and nothing changes them.
local function head_of(key) return tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]) end
local first_end, first_due = head_of(lease), head_of(delayed)
local lease_changed = false
local ended, n_ended = {}, 0
local SIGNALLED_AGAIN_MS = 60000
local MOST_TAGGED, MOST_OTHERS = 200, 250  -- outcomes in one call
local buried_bytes = 0
local MOST_FREED = 32000000  -- bytes in one call, or one that is larger: memory takes time to be freed, too
local marks = redis.call('HMGET', control, 'paused', 'large')
local large, freed_bytes = marks[2], 0
local signalled = tagged
local how = {}  -- id → state and value, for those that wait for it

-- Where payloads are large: whether what `hash` has of `id` may still be freed by this call; counts it if so.
local function may_free(hash, id)
  local size = redis.call('HSTRLEN', hash, id) + (tagged and redis.call('HSTRLEN', input, id) or 0)
  if freed_bytes > 0 and freed_bytes + size > MOST_FREED then return false end
  freed_bytes = freed_bytes + size
  return true
end

local function tag_if_any(id) return tagged and tag_of(id) or nil end

local function ends(id, state, value)
  n_ended = n_ended + 1
  ended[n_ended] = id
  if tagged then how[id] = {state, value} end
end

-- Have a blocked task end as cancelled, by a signal that comes from itself.
local function signal_cancelled(id, why)
  redis.call('RPUSH', outbox, cmsgpack.pack({here, id, 0, id, 'cancelled', why}))
  signalled = true
end

local function bury(id, reason, attempt, delivery, record)
  local blob = unwrapped(redis.call('HGET', task, id) or '')
  local t, passed_on = tag_if_any(id), ''
  local kept = ''
  if t and (t.l or t.f or t.u) then kept = cmsgpack.pack({l = t.l, f = t.f, u = t.u}) end
  if tagged then passed_on = redis.call('HGET', input, id) or '' end
  buried_bytes = buried_bytes + #blob + #passed_on
  redis.call('HSET', letter, id, cmsgpack.pack({reason, attempt, delivery, now, blob, record, kept, passed_on}))
  redis.call('ZADD', dead, now, id)
  ends(id, reason, record)
  add('failed', 1)
end

-- Outcomes; those of tasks with tags cost more. What is too much for one call is left to the next.
local stale = {}
local n_done, n_recorded, unfinished = 0, 0, false
if ARGV[13] and ARGV[13] ~= '' then
  local done = cmsgpack.unpack(ARGV[13])
  local tokens = redis.call('HMGET', owner, unpack(done))
  local recorded = {}
  n_done = tagged and math.min(#done, MOST_TAGGED) or #done
  if large then
    local most = n_done
    n_done = 0
    while n_done < most and may_free(task, done[n_done + 1]) do n_done = n_done + 1 end
  end
  unfinished = n_done < #done
  for i = 1, n_done do
    if tokens[i] == first_token and not recorded[done[i]] then
      recorded[done[i]] = true
      if tagged then free_slot(tag_of(done[i])) end
      ends(done[i], 'succeeded', '')
    else
      stale[#stale + 1] = done[i]
    end
  end
  if n_ended > 0 then
    lease_changed = true
    redis.call('ZREM', lease, unpack(ended))
    redis.call('HDEL', owner, unpack(ended))
    add('finished', n_ended)
    if tonumber(ARGV[12]) > 0 then add('busy_ms', tonumber(ARGV[12])) end
  end
end
local outcomes = ARGV[9] ~= '' and cmsgpack.unpack(ARGV[9]) or {}
if #outcomes > 0 then
  local ids = {}
  for i = 1, #outcomes do ids[i] = outcomes[i][1] end
  local tokens = redis.call('HMGET', owner, unpack(ids))
  local cancelled = redis.call('EXISTS', cancel) == 1
  local held, recorded, next_result = {}, {}, last_key + 1
  local n_held, busy_ms, finished = 0, 0, 0
  local most = tagged and MOST_TAGGED - n_done or MOST_OTHERS
  for i = 1, #outcomes do
    if i > most or buried_bytes > MOST_BYTES or large and not may_free(task, outcomes[i][1]) then
      unfinished = true
      break
    end
    n_recorded = i
    local o = outcomes[i]
    local id, delivery, code = o[1], o[2], o[3]
    local result_key
    if o[5] ~= '' and o[6] > 0 then result_key = KEYS[next_result]; next_result = next_result + 1 end
    local token = first_token
    if delivery ~= 1 then token = me .. ':' .. delivery end
    if tokens[i] ~= token or recorded[id] then
      stale[#stale + 1] = id
    else
      recorded[id] = true
      n_held = n_held + 1
      held[n_held] = id
      busy_ms = busy_ms + o[4]
      if cancelled and code ~= 's' and redis.call('HDEL', cancel, id) == 1 then
        -- Older workers give no such record for these two: then they are recorded as what they are.
        local unrecorded = code == 'x' and o[7] == 0 or code == 'd' and o[5] == ''
        if not unrecorded then
          if code == 'x' then o[5] = o[7] end
          code = 'c'
        end
      end
      local t = tag_if_any(id)
      free_slot(t)
      if code == 'r' or code == 'n' then
        local attempt, _, crashes, since = read_meta(id)
        local delay = o[7]
        if code == 'r' then
          attempt, crashes = attempt + 1, 0
          add('retried', 1)
        end
        if delay > 0 then
          write_meta(id, attempt, delivery, crashes, 0)
          redis.call('ZADD', delayed, at_least_now + delay, id)
          delayed_changed = true
        elseif code == 'r' then
          place_at_tail(id, t, attempt, delivery, crashes)
        else
          write_meta(id, attempt, delivery, crashes, since)
          place(id, t, true)
        end
      else
        if code == 'f' or code == 'd' then
          local attempt = read_meta(id)
          bury(id, code == 'f' and 'failed' or 'dead', attempt, delivery, o[7])
        else
          if result_key then redis.call('SET', result_key, o[5], 'PX', o[6]) end
          ends(id, code == 's' and 'succeeded' or code == 'c' and 'cancelled' or 'expired', o[5])
          if code == 'c' then add('cancelled', 1) elseif code == 'x' then add('expired', 1) end
        end
        finished = finished + 1
      end
    end
  end
  if busy_ms > 0 then add('busy_ms', busy_ms) end
  if finished > 0 then add('finished', finished) end
  if #held > 0 then
    lease_changed = true
    redis.call('ZREM', lease, unpack(held))
    redis.call('HDEL', owner, unpack(held))
  end
end
if unfinished then wanted = 0 end

-- Leases that ended without an outcome: their worker is gone. A crash is counted, and the task goes to the head.
local gone, taken_over = {}, {}
if first_end and first_end <= now then
  lease_changed = true
  gone = redis.call('ZRANGEBYSCORE', lease, '-inf', now, 'LIMIT', 0, tonumber(ARGV[5]))
end
for i = #gone, 1, -1 do
  local id = gone[i]
  local token = redis.call('HGET', owner, id)
  redis.call('ZREM', lease, id)
  redis.call('HDEL', owner, id)
  if redis.call('HEXISTS', task, id) == 1 then
    local attempt, delivery, crashes = read_meta(id)
    local t = tag_if_any(id)
    free_slot(t)
    delivery = tonumber(token and string.match(token, ':(%d+)$')) or delivery
    crashes = crashes + 1
    local n = #taken_over
    taken_over[n + 1], taken_over[n + 2], taken_over[n + 3] = id, attempt, crashes
    taken_over[n + 4] = crashes >= tonumber(ARGV[4]) and 1 or 0
    taken_over[n + 5] = string.sub(unwrapped(redis.call('HGET', task, id)), 1, 300)
    if redis.call('HDEL', cancel, id) == 1 then
      taken_over[n + 4] = 0
      -- Its result key is not ours to name: it waits for its own signal, which whoever relays ends it with.
      block(id, 1, 0, 0, SIGNALLED_AGAIN_MS)
      signal_cancelled(id, 'cancelled while it ran')
    elseif crashes >= tonumber(ARGV[4]) then
      bury(id, 'dead', attempt, delivery,
        cmsgpack.pack({'max_deliveries', 'its worker died ' .. crashes .. ' times while it ran', ''}))
      add('finished', 1)
    else
      write_meta(id, attempt, delivery, crashes, now)
      place(id, t, true)
      add('taken_over', 1)
    end
  end
end

if n_ended > 0 then
  -- A task that succeeded in spite of its cancellation takes the mark along.
  local cancelling = redis.call('EXISTS', cancel) == 1
  local noted = redis.call('EXISTS', meta) == 1
  local awaited = redis.call('EXISTS', await) == 1
  local reported = redis.call('EXISTS', progress) == 1
  for first = 1, n_ended, 1000 do
    local last = math.min(first + 999, n_ended)
    redis.call('HDEL', task, unpack(ended, first, last))
    if noted then redis.call('HDEL', meta, unpack(ended, first, last)) end
    if cancelling then redis.call('HDEL', cancel, unpack(ended, first, last)) end
    if reported then redis.call('HDEL', progress, unpack(ended, first, last)) end
  end
  for i = 1, n_ended do
    local id = ended[i]
    if tagged then release(id, tag_of(id), how[id][1], how[id][2]) end
    if awaited and redis.call('SREM', await, id) == 1 then redis.call('PUBLISH', ARGV[8], id) end
  end
end

-- Delayed tasks that are due.
if first_due and first_due <= now or delayed_changed then
  delayed_changed = true
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, math.min(math.max(wanted, 100), 500))
  if #due > 0 then redis.call('ZREM', delayed, unpack(due)) end
  if tagged then
    for i = 1, #due do
      local attempt, delivery, crashes = read_meta(due[i])
      place_due(due[i], tag_of(due[i]), attempt, delivery, crashes)
    end
  elseif #due > 0 then
    -- Without turns and keys all go to the tail together.
    local metas, notes = redis.call('HMGET', meta, unpack(due)), {}
    for i = 1, #due do
      local attempt, delivery, crashes = parsed_meta(metas[i])
      notes[2 * i - 1], notes[2 * i] = due[i], meta_text(attempt, delivery, crashes, now)
    end
    redis.call('HSET', meta, unpack(notes))
    redis.call('RPUSH', ready, unpack(due))
  end
end

-- Dead letters beyond their number or age: a bounded few at a time.
if counts['failed'] then
  local old = redis.call('ZRANGEBYSCORE', dead, '-inf', now - tonumber(ARGV[7]), 'LIMIT', 0, 100)
  local extra = redis.call('ZCARD', dead) - #old - tonumber(ARGV[6])
  if extra > 0 then
    local first = redis.call('ZRANGE', dead, #old, #old + math.min(extra, 100) - 1)
    for i = 1, #first do old[#old + 1] = first[i] end
  end
  if large then
    freed_bytes = 0
    for i = 1, #old do
      if not may_free(letter, old[i]) then
        old = {unpack(old, 1, i - 1)}
        break
      end
    end
  end
  if #old > 0 then
    drop_letters_inputs(old)
    redis.call('ZREM', dead, unpack(old))
    redis.call('HDEL', letter, unpack(old))
  end
end

let_in()

-- How many may start: no more than the queue's own limits leave.
local may_start = memory_full and 0 or math.min(wanted, tagged and 500 or 1000)
local limit = tonumber(ARGV[14])
if limit > 0 then may_start = math.min(may_start, limit - redis.call('ZCARD', lease)) end
-- The rate limit: a bucket of tokens in `control`, filled by the clock of Redis. Work that was handed back has paid.
local rate, tokens_left, next_token = tonumber(ARGV[10]), nil, nil
if rate > 0 and wanted > 0 then
  local burst = tonumber(ARGV[11])
  local bucket = redis.call('HMGET', control, 'tokens', 'filled')
  tokens_left = math.min(burst, (tonumber(bucket[1]) or burst) + math.max(0, now - (tonumber(bucket[2]) or now)) * rate / 1000)
  may_start = math.min(may_start, math.floor(tokens_left))
end

-- The rate limit per key: each key's theoretical arrival time, as in the generic cell rate algorithm. A key whose
-- tasks wait for their next token stands in `retry_at` with its time.
local key_slots, key_rate, key_burst = tonumber(ARGV[15]), tonumber(ARGV[16]), tonumber(ARGV[17])
local interval = key_rate > 0 and 1000 / key_rate or 0
local tolerance = interval * (key_burst - 1)
if tagged then
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', retry_at, '-inf', now, 'LIMIT', 0, 100)) do
    redis.call('ZREM', retry_at, key)
    local free = 1000
    if interval > 0 then
      local arrival = math.max(now, tonumber(redis.call('ZSCORE', arrivals, key)) or 0)
      free = math.min(free, math.floor((now + tolerance - arrival) / interval) + 1)
    end
    local slots_left = key_slots > 0 and key_slots - (tonumber(redis.call('HGET', slots, key)) or 0) or 1001
    local n = math.min(free, slots_left)
    if n > 0 then unpark(key, n) end
    -- Where slots are what is short, each that comes free lets the next one in.
    if free < slots_left and is_parked(key) then redis.call('ZADD', retry_at, now + math.max(1, interval), key) end
  end
  -- A bucket that is full again need not be remembered.
  local full = redis.call('ZRANGEBYSCORE', arrivals, '-inf', now, 'LIMIT', 0, 100)
  if #full > 0 then redis.call('ZREM', arrivals, unpack(full)) end
  -- A workflow whose sender died before it was whole.
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', blocked, '-inf', now, 'LIMIT', 0, 10)) do
    redis.call('ZADD', blocked, now + SIGNALLED_AGAIN_MS, id)
    signal_cancelled(id, 'its workflow was never sent whole')
  end
end

-- Whether a task's key lets it start; if not, it waits in `parked`.
local function admitted(id, t)
  if key_slots > 0 and (tonumber(redis.call('HGET', slots, t.l)) or 0) >= key_slots then
    park(id, t)
    return false
  end
  if interval > 0 then
    local arrival = math.max(now, tonumber(redis.call('ZSCORE', arrivals, t.l)) or 0)
    if arrival > now + tolerance then
      park(id, t)
      redis.call('ZADD', retry_at, math.ceil(arrival - tolerance), t.l)
      return false
    end
    redis.call('ZADD', arrivals, arrival + interval, t.l)
    redis.call('PEXPIRE', arrivals, math.ceil(2 * (tolerance + interval)) + 60000)
  end
  count(slots, t.l, 1)
  return true
end

-- Where payloads are large, how many of the next tasks fit into what one call may copy; at least one of all.
local bytes_left = MOST_BYTES
local function fitting(n)
  local ids = redis.call('LRANGE', ready, 0, n - 1)
  if tagged and #ids < n then
    for _, id in ipairs(redis.call('ZRANGE', fair, 0, n - #ids - 1)) do ids[#ids + 1] = id end
  end
  for i = 1, #ids do
    local size = redis.call('HSTRLEN', task, ids[i]) + (tagged and redis.call('HSTRLEN', input, ids[i]) or 0)
    if size > bytes_left and bytes_left < MOST_BYTES then return i - 1 end
    bytes_left = bytes_left - size
  end
  return #ids
end

local turn_served
local function take(n)
  local ids = redis.call('LPOP', ready, n) or {}
  if tagged and #ids < n then
    local popped = redis.call('ZPOPMIN', fair, n - #ids)
    for i = 1, #popped, 2 do
      ids[#ids + 1] = popped[i]
      turn_served = popped[i + 1]
    end
  end
  return ids
end

-- The claim.
local claimed, inputs, n_claimed = {}, {}, 0
local state = may_start > 0 and marks
if state and not state[1] then
  local leases, tokens, removed, c, looked = {}, {}, 0, 0, 0
  local ends_at = now + lease_ms
  while n_claimed < may_start and looked < 2000 do
    local n = may_start - n_claimed
    if large then n = fitting(math.min(n, 16)) end
    local ids = n > 0 and take(n) or {}
    if #ids == 0 then break end
    looked = looked + #ids
    local blobs = redis.call('HMGET', task, unpack(ids))
    local metas = redis.call('EXISTS', meta) == 1 and redis.call('HMGET', meta, unpack(ids)) or {}
    local tags = tagged and redis.call('HMGET', tag, unpack(ids)) or {}
    for i = 1, #ids do
      local id, blob, note, t = ids[i], blobs[i], metas[i] or '', tags[i]
      if t then t = sound_tag(t) end
      if not blob then
        removed = removed + 1  -- cancelled while it waited: only its place in the list was left
      elseif not (t and t.l) or admitted(id, t) then
        local token = first_token
        if note ~= '' then token = me .. ':' .. (tonumber(string.match(note, '^%d+:(%d+):')) or 0) + 1 end
        n_claimed = n_claimed + 1
        leases[2 * n_claimed - 1] = ends_at
        leases[2 * n_claimed] = id
        tokens[2 * n_claimed - 1] = id
        tokens[2 * n_claimed] = token
        claimed[c + 1] = id
        claimed[c + 2] = tagged and unwrapped(blob) or blob
        claimed[c + 3] = note
        c = c + 3
        local passed_on = tagged and redis.call('HGET', input, id)
        if passed_on then
          inputs[#inputs + 1] = n_claimed - 1
          inputs[#inputs + 1] = passed_on
        end
      end
    end
  end
  if n_claimed > 0 then
    redis.call('ZADD', lease, unpack(leases))
    redis.call('HSET', owner, unpack(tokens))
  end
  if removed > 0 then add('removed', -removed) end
  -- All that was let in is claimed, and there are slots left: the limit was raised, so more may come in.
  if key_slots > 0 and n_claimed < may_start then
    for _, key in ipairs(freed_keys) do
      if (tonumber(redis.call('HGET', slots, key)) or 0) < key_slots and is_parked(key) then
        redis.call('ZADD', retry_at, now, key)
      end
    end
  end
  if turn_served then
    if redis.call('EXISTS', fair) == 0 then
      end_turns()
    else
      redis.call('HSET', control, 'turn', turn_served)
      local behind = redis.call('ZRANGEBYSCORE', turns, '-inf', turn_served, 'LIMIT', 0, 100)
      if #behind > 0 then redis.call('ZREM', turns, unpack(behind)) end
    end
  end
end

if tokens_left then
  tokens_left = tokens_left - n_claimed
  redis.call('HSET', control, 'tokens', tostring(tokens_left), 'filled', now)
  if tokens_left < 1 then next_token = math.ceil((1 - tokens_left) * 1000 / rate) end
end
write_counts()

local waiting = redis.call('LLEN', ready)
local signals = 0
local horizon = -1

local function look_at(score, slack)
  if score and score < 1e15 then
    local ms = math.max(0, score - now) + slack
    if horizon < 0 or ms < horizon then horizon = ms end
  end
end

if delayed_changed then first_due = head_of(delayed) end
if lease_changed then first_end = head_of(lease) end
if n_claimed > 0 then first_end = math.min(first_end or math.huge, now + lease_ms) end
look_at(first_due, 0)
look_at(first_end, 1)
if tagged then
  look_at(head_of(retry_at), 0)
  waiting = waiting + redis.call('ZCARD', fair)
end
if signalled then
  look_at(head_of(blocked), 0)
  signals = signals_left()
end
-- Nothing is worth asking for before the next token, or before a running task ends: say so in place of "there is more".
if waiting > 0 and next_token then
  waiting = 0
  if horizon < 0 or next_token < horizon then horizon = next_token end
end
if state and state[1] or limit > 0 and redis.call('ZCARD', lease) >= limit then waiting = 0 end
-- Nothing is claimed before there is memory: look again in a second.
if memory_full then
  waiting = 0
  if horizon < 0 or horizon > 1000 then horizon = 1000 end
end
-- A worker that is full now wakes the next one, which learns what is left and what is due.
if n_claimed >= wanted and (waiting > 0 or first_due) then call_a_worker() end
return {now, waiting, horizon, stale, claimed, inputs, signals, memory_full and 1 or 0, taken_over,
  unfinished and {n_done, n_recorded} or {}}

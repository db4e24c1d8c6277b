-- Record outcomes and claim work, in one call: the heart of a worker.
-- KEYS  1-13 of the queue (engine/keys.py); after them the result keys of the outcomes that carry a result, in order
-- ARGV  1 owner (worker incarnation)  2 slots to fill  3 lease_ms  4 max_deliveries  5 takeover limit
--       6 dead letters kept  7 dead letters' ttl_ms  8 done channel  9 messagepack list of outcomes
--       10 rate limit (tasks per second, 0 = none)  11 its burst
--       12 busy_ms of 13 in all  13 messagepack list of ids: first deliveries that succeeded and keep no result
--       An outcome is (id, delivery, code, busy_ms, result, ttl_ms, extra). Codes: s succeeded, x expired, c cancelled,
--       r retry (extra: delay_ms), n handed back unstarted or unfinished, f failed, d dead (extra: record).
--       The result of r, n and f is what to record should the task have been cancelled meanwhile.
-- REPLY {now_ms, still claimable, ms to the next due task, lease end or token (-1 none), {stale ids}, {id, envelope, meta, ...}}
-- An outcome whose token (owner:delivery) is not the one in `owner` changes nothing. The lease, the token and the
-- payload of a claimed task stand in Redis before the worker sees it.
local ready, task, meta, lease, owner = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local delayed, dead, letter, stat, control, wake, cancel, await =
  KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local me, slots, lease_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local counts = {}
local ended, n_ended = {}, 0

local first_token = me .. ':1'

local function add(name, n) counts[name] = (counts[name] or 0) + n end

local function read_meta(id)
  local value = redis.call('HGET', meta, id)
  if not value then return 1, 0, 0, 0 end
  local attempt, delivery, crashes, since = string.match(value, '^(%d+):(%d+):(%d+):(%d+)$')
  return tonumber(attempt), tonumber(delivery), tonumber(crashes), tonumber(since)
end

local function write_meta(id, attempt, delivery, crashes, since)
  redis.call('HSET', meta, id, string.format('%d:%d:%d:%d', attempt, delivery, crashes, since))
end

local function bury(id, reason, attempt, delivery, record)
  local blob = redis.call('HGET', task, id) or ''
  redis.call('HSET', letter, id, cmsgpack.pack({reason, attempt, delivery, now, blob, record}))
  redis.call('ZADD', dead, now, id)
  n_ended = n_ended + 1
  ended[n_ended] = id
  add('failed', 1)
end

local function make_ready_at_tail(id, attempt, delivery, crashes)
  write_meta(id, attempt, delivery, crashes, now)
  redis.call('RPUSH', ready, id)
end

-- Outcomes.
local stale = {}
if ARGV[13] and ARGV[13] ~= '' then
  local done = cmsgpack.unpack(ARGV[13])
  local tokens = redis.call('HMGET', owner, unpack(done))
  for i = 1, #done do
    if tokens[i] == first_token then
      n_ended = n_ended + 1
      ended[n_ended] = done[i]
    else
      stale[#stale + 1] = done[i]
    end
  end
  if n_ended > 0 then
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
  local held, recorded, next_result = {}, {}, 14
  local n_held, busy_ms, finished = 0, 0, 0
  for i = 1, #outcomes do
    local o = outcomes[i]
    local id, delivery, code = o[1], o[2], o[3]
    local result_key
    if o[5] ~= '' then result_key = KEYS[next_result]; next_result = next_result + 1 end
    local token = first_token
    if delivery ~= 1 then token = me .. ':' .. delivery end
    if tokens[i] ~= token or recorded[id] then
      stale[#stale + 1] = id
    else
      recorded[id] = true
      n_held = n_held + 1
      held[n_held] = id
      busy_ms = busy_ms + o[4]
      if cancelled and code ~= 's' and redis.call('HDEL', cancel, id) == 1 then code = 'c' end
      if code == 'r' or code == 'n' then
        local attempt, _, crashes, since = read_meta(id)
        if code == 'r' then
          local delay = o[7]
          if delay > 0 then
            write_meta(id, attempt + 1, delivery, 0, 0)
            redis.call('ZADD', delayed, now + delay, id)
          else
            make_ready_at_tail(id, attempt + 1, delivery, 0)
          end
          add('retried', 1)
        else
          write_meta(id, attempt, delivery, crashes, since)
          redis.call('LPUSH', ready, id)
        end
      else
        if code == 'f' or code == 'd' then
          local attempt = read_meta(id)
          bury(id, code == 'f' and 'failed' or 'dead', attempt, delivery, o[7])
        else
          if result_key then redis.call('SET', result_key, o[5], 'PX', o[6]) end
          n_ended = n_ended + 1
          ended[n_ended] = id
          if code == 'c' then add('cancelled', 1) elseif code == 'x' then add('expired', 1) end
        end
        finished = finished + 1
      end
    end
  end
  if busy_ms > 0 then add('busy_ms', busy_ms) end
  if finished > 0 then add('finished', finished) end
  if #held > 0 then
    redis.call('ZREM', lease, unpack(held))
    redis.call('HDEL', owner, unpack(held))
  end
end

-- Leases that ended without an outcome: their worker is gone. A crash is counted, and the task goes to the head.
local gone = redis.call('ZRANGEBYSCORE', lease, '-inf', now, 'LIMIT', 0, tonumber(ARGV[5]))
for i = #gone, 1, -1 do
  local id = gone[i]
  local token = redis.call('HGET', owner, id)
  redis.call('ZREM', lease, id)
  redis.call('HDEL', owner, id)
  if redis.call('HEXISTS', task, id) == 1 then
    local attempt, delivery, crashes = read_meta(id)
    delivery = tonumber(token and string.match(token, ':(%d+)$')) or delivery
    crashes = crashes + 1
    if redis.call('HDEL', cancel, id) == 1 then
      bury(id, 'cancelled', attempt, delivery, cmsgpack.pack({'cancelled', 'cancelled while it ran', ''}))
      add('finished', 1)
    elseif crashes >= tonumber(ARGV[4]) then
      bury(id, 'dead', attempt, delivery,
        cmsgpack.pack({'max_deliveries', 'its worker died ' .. crashes .. ' times while it ran', ''}))
      add('finished', 1)
    else
      write_meta(id, attempt, delivery, crashes, now)
      redis.call('LPUSH', ready, id)
      add('taken_over', 1)
    end
  end
end

if #ended > 0 then
  -- A task that succeeded in spite of its cancellation takes the mark along.
  local cancelling = redis.call('EXISTS', cancel) == 1
  for first = 1, #ended, 1000 do
    local last = math.min(first + 999, #ended)
    redis.call('HDEL', task, unpack(ended, first, last))
    redis.call('HDEL', meta, unpack(ended, first, last))
    if cancelling then redis.call('HDEL', cancel, unpack(ended, first, last)) end
  end
  if redis.call('EXISTS', await) == 1 then
    for i = 1, #ended do
      if redis.call('SREM', await, ended[i]) == 1 then redis.call('PUBLISH', ARGV[8], ended[i]) end
    end
  end
end

-- Delayed tasks that are due.
local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, math.max(slots, 100))
if #due > 0 then
  redis.call('ZREM', delayed, unpack(due))
  for i = 1, #due do
    local attempt, delivery, crashes = read_meta(due[i])
    make_ready_at_tail(due[i], attempt, delivery, crashes)
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
  if #old > 0 then
    redis.call('ZREM', dead, unpack(old))
    redis.call('HDEL', letter, unpack(old))
  end
end

-- The rate limit: a bucket of tokens in `control`, filled by the clock of Redis. Work that was handed back has paid.
local rate, tokens_left, next_token = tonumber(ARGV[10]), nil, nil
local granted = slots
if rate > 0 and slots > 0 then
  local burst = tonumber(ARGV[11])
  local bucket = redis.call('HMGET', control, 'tokens', 'filled')
  tokens_left = math.min(burst, (tonumber(bucket[1]) or burst) + math.max(0, now - (tonumber(bucket[2]) or now)) * rate / 1000)
  granted = math.min(slots, math.floor(tokens_left))
end

-- The claim.
local claimed = {}
if granted > 0 and redis.call('HEXISTS', control, 'paused') == 0 then
  local ids = redis.call('LPOP', ready, math.min(granted, 1000))
  if ids then
    local blobs = redis.call('HMGET', task, unpack(ids))
    local metas
    if redis.call('EXISTS', meta) == 1 then metas = redis.call('HMGET', meta, unpack(ids)) else metas = {} end
    local leases, tokens, removed = {}, {}, 0
    local ends, n, c = now + lease_ms, 0, 0
    for i = 1, #ids do
      local id, blob, note = ids[i], blobs[i], metas[i] or ''
      if blob then
        local token = first_token
        if note ~= '' then token = me .. ':' .. tonumber(string.match(note, ':(%d+):')) + 1 end
        leases[n + 1] = ends
        leases[n + 2] = id
        tokens[n + 1] = id
        tokens[n + 2] = token
        n = n + 2
        claimed[c + 1] = id
        claimed[c + 2] = blob
        claimed[c + 3] = note
        c = c + 3
      else
        removed = removed + 1  -- cancelled while it waited: only its place in the list was left
      end
    end
    if #leases > 0 then
      redis.call('ZADD', lease, unpack(leases))
      redis.call('HSET', owner, unpack(tokens))
    end
    if removed > 0 then add('removed', -removed) end
  end
end

if tokens_left then
  tokens_left = tokens_left - #claimed / 3
  redis.call('HSET', control, 'tokens', tostring(tokens_left), 'filled', now)
  if tokens_left < 1 then next_token = math.ceil((1 - tokens_left) * 1000 / rate) end
end

for name, n in pairs(counts) do redis.call('HINCRBY', stat, name, n) end

local left = redis.call('LLEN', ready)
local horizon = -1
local first_due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
local first_end = redis.call('ZRANGE', lease, 0, 0, 'WITHSCORES')[2]
if first_due then horizon = math.max(0, first_due - now) end
if first_end then
  local ms = math.max(0, first_end - now) + 1
  if horizon < 0 or ms < horizon then horizon = ms end
end
-- Nothing is worth asking for before the next token: say so in place of "there is more".
local waiting = left
if next_token and left > 0 then
  waiting = 0
  if horizon < 0 or next_token < horizon then horizon = next_token end
end
-- A worker that is full now wakes the next one, which learns what is left and what is due.
if #claimed / 3 >= slots and (waiting > 0 or first_due) and redis.call('LLEN', wake) == 0 then
  redis.call('RPUSH', wake, 1)
  redis.call('PEXPIRE', wake, 60000)
end
return {now, waiting, horizon, stale, claimed}

-- needs: keys queue/clock queue/unpacking queue/records queue/inputs
-- Everything that is known of a few tasks, to be shown. It changes nothing.
-- KEYS  the queue's (redis/keys.py); the result key of each task, in order
-- ARGV  1 messagepack list of ids  2 bytes of one payload, letter or result that are returned whole  3 places of the
--       line in which a ready task is looked for
-- REPLY {now_ms, 1 when the queue is paused, running tasks, tokens of the rate limit or '', when they were counted (ms)
--       or '', {task, ...}}: fewer tasks than ids where they are large; the caller calls again for the rest
--       A task is (state, payload, its size, history, token, end of its lease, due time, unique key, limit key, fair key,
--       1 when it is parked, tasks before it in line or -1, tasks that it waits for, task that has its unique key,
--       1 when it is being cancelled, result record or dead letter, its size, progress, errors, running tasks of its limit
--       key, time of that key's next token, ms that its result is kept). Missing values are ''. A state is as in
--       status.lua. Of a larger payload only the first bytes are returned, a larger letter is without its payload, a
--       larger result is missing.
local MOST_TOGETHER, MOST_READ = 1000000, 4000000
local HEAD, MOST_LOOKED_AT = 300, 1000
local most_whole, read = tonumber(ARGV[2]), 0

local function payload(id)
  local size = redis.call('HSTRLEN', task, id)
  if size > MOST_READ then return '', size end
  read = read + size
  local blob = unwrapped(redis.call('HGET', task, id) or '')
  return size > most_whole and string.sub(blob, 1, HEAD) or blob, size
end

local function dead_letter(id)
  local size = redis.call('HSTRLEN', letter, id)
  if size > MOST_READ then return '', size end
  read = read + size
  local packed = redis.call('HGET', letter, id)
  if size <= most_whole then return packed, size end
  local parts = unpacked(packed) or {}
  if type(parts[5]) == 'string' then parts[5], parts[8] = string.sub(parts[5], 1, HEAD), '' end
  return cmsgpack.pack(parts), size
end

local function result(key)
  local kept = redis.call('PTTL', key)
  if kept == -2 then return nil end
  local size = redis.call('STRLEN', key)
  if size > most_whole then return '', size, kept end
  read = read + size
  return redis.call('GET', key), size, kept
end

-- The number of tasks before a ready one; -1 when it is further behind than the number of places looked at.
local function ahead_of(id)
  local rank = redis.call('ZSCORE', fair, id)
  local removed = tonumber(redis.call('HGET', stat, 'removed')) or 0  -- cancelled, and still in the list
  if rank then return math.max(0, redis.call('LLEN', ready) - removed) + redis.call('ZCOUNT', fair, '-inf', '(' .. rank) end
  local places = math.min(tonumber(ARGV[3]), MOST_LOOKED_AT)
  local ids = places > 0 and redis.call('LRANGE', ready, 0, places - 1) or {}
  for i = 1, #ids do
    if ids[i] == id then
      local gone = 0
      if removed > 0 then
        for k = 1, i - 1 do gone = gone + 1 - redis.call('HEXISTS', task, ids[k]) end
      end
      return i - 1 - gone
    end
  end
  return -1
end

local function state_of(id, is_running, due, t, attempt)
  if is_running then return 'running' end
  if redis.call('HEXISTS', gather, id) == 1 then return 'blocked' end
  if due ~= '' then return attempt > 1 and 'retrying' or 'delayed' end
  return t.p and 'delayed' or 'ready'
end

local function described(id, result_key)
  local state, record, record_size, kept = 'dead', nil, 0, 0
  if redis.call('HEXISTS', letter, id) == 1 then
    record, record_size = dead_letter(id)
  else
    record, record_size, kept = result(result_key)
    state = 'ended'
  end
  local blob, size = payload(id)
  local history, due = redis.call('HGET', meta, id) or '', redis.call('ZSCORE', delayed, id) or ''
  local token = redis.call('HGET', owner, id) or ''
  local t = tag_of(id) or {}
  if not record then
    local attempt = parsed_history(history)
    state = size > 0 and state_of(id, token ~= '', due, t, attempt) or 'unknown'
  end
  local pending = ''
  if state == 'blocked' then pending = parsed_gather(redis.call('HGET', gather, id)) or '' end
  return {
    state, blob, size, history, token, redis.call('ZSCORE', lease, id) or '', due, t.u or '', t.l or '', t.f or '',
    t.p and 1 or 0, state == 'ready' and ahead_of(id) or -1, pending, t.u and redis.call('HGET', unique, t.u) or '',
    redis.call('HEXISTS', cancel, id), record or '', record_size or 0, redis.call('HGET', progress, id) or '',
    redis.call('HGET', errors, id) or '', t.l and redis.call('HGET', slots, t.l) or '',
    t.l and redis.call('ZSCORE', retry_at, t.l) or '', kept or 0,
  }
end

local found = {}
for i, id in ipairs(cmsgpack.unpack(ARGV[1])) do
  if read > MOST_TOGETHER then break end
  found[i] = described(id, KEYS[last_key + i])
end
local marks = redis.call('HMGET', control, 'tokens', 'filled')
return {
  now, redis.call('HEXISTS', control, 'paused'), redis.call('ZCARD', lease), marks[1] or '', marks[2] or '', found,
}

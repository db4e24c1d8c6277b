-- needs: keys queue/counters queue/unpacking queue/inputs queue/signals
-- Continue the first job, which is too much for one call: signal the end of a task to the tasks that wait for it, or
-- drop the results that had arrived for a task.
-- KEYS  the queue's (redis/keys.py)
-- ARGV  1 activity channel  2 queue name
-- REPLY number of signals and jobs that are left, for this queue and for others
-- The edges that a call has handled are removed from `edges` in the same step, so each is handled once, by any client.
local function signal_some(id, last, state, value)
  local at, from = string.match(redis.call('HGET', edges, id) or '', '^(%d+):(%d+)$')
  at, from = tonumber(at), tonumber(from)
  if not at then return true end
  local some = unpacked(redis.call('HGET', edges, id .. ':' .. at) or '') or {}
  local to = math.min(#some, from + math.min(MOST_SIGNALS, math.max(1, math.floor(MOST_BYTES / math.max(1, #value)))))
  for i = from + 1, to do signal_one(id, some[i], state, value) end
  if to < #some then
    redis.call('HSET', edges, id, at .. ':' .. to)
    return false
  end
  redis.call('HDEL', edges, id .. ':' .. at)
  if at < last then
    redis.call('HSET', edges, id, (at + 1) .. ':0')
    return false
  end
  redis.call('HDEL', edges, id)
  return true
end

local function sweep_some(id, total)
  local from = tonumber(redis.call('HGET', edges, id .. '\0')) or total
  local fields, to = {}, math.min(total, from + GATHERED)
  for position = from, to - 1 do fields[#fields + 1] = id .. ':' .. position end
  if #fields > 0 then redis.call('HDEL', gather, unpack(fields)) end
  redis.call('HSET', edges, id .. '\0', to)
  if to < total then return false end
  redis.call('HDEL', edges, id .. '\0')
  return true
end

local packed = redis.call('LINDEX', jobs, 0)
if packed then
  redis.call('HDEL', owner, '')  -- after a write that needs no memory, a Redis that is out of memory permits the others
  local verb, job_id, job_last, state, value = unpack(unpacked(packed) or {}, 1, 5)
  local nothing_ready = redis.call('EXISTS', ready, fair) == 0
  local done = true
  local id, last = text_or_nil(job_id), number_or_nil(job_last)  -- a job that another program has written is dropped
  if id and last and verb == 'tell' and text_or_nil(state) and text_or_nil(value) then
    done = signal_some(id, last, state, value)
  elseif id and last and verb == 'sweep' and last <= MOST_GATHERED then
    done = sweep_some(id, last)
  end
  if done then redis.call('LPOP', jobs) end
  write_counts()
  if nothing_ready and redis.call('EXISTS', ready, fair) == 1 then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
end
return signals_left()

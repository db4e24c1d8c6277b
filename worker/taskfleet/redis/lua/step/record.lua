-- needs: keys queue/clock queue/counters queue/errors queue/inputs queue/records queue/ready queue/unknown step step/bury step/slots
-- Record the outcomes with a valid fencing token.
-- Outcomes of tasks with tags cost more. Those that are too many for one call are left to the next, and counted in
-- `unrecorded`.
local MOST_TAGGED, MOST_OTHERS = 200, 250  -- outcomes in one call
local n_done, n_recorded, unfinished = 0, 0, false

-- Count an outcome without effect; returns whether Redis knows nothing of its task.
local function is_stale(id, token)
  stale[#stale + 1] = id
  local unknown = is_unknown(id, token)
  if unknown then n_unknown = n_unknown + 1 end
  return unknown
end

-- First deliveries that succeeded without a result to keep: nearly all outcomes, and the cheapest.
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
  local tags = tagged and tags_of(done, n_done) or {}
  for i = 1, n_done do
    if tokens[i] == first_token and not recorded[done[i]] then
      recorded[done[i]] = true
      free_slot(tags[i])
      ends(done[i], 'succeeded', '', tags[i])
    else
      is_stale(done[i], tokens[i])
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

if ARGV[9] ~= '' then
  local cancelled = redis.call('EXISTS', cancel) == 1

  -- The tasks that are run again are written together: their histories, with their ids, their errors, and their ids by
  -- where they wait; `later` has their times, too.
  local written, failures, later, at_head, at_tail = {}, {}, {}, {}, {}

  -- A task that is run again: after its retry delay, or because it was returned. `history` is the packed one.
  local function put_back(id, t, history, delivery, code, extra)
    local attempt, _, crashes, since = parsed_history(history)
    local delay, failure = extra, nil
    if type(extra) == 'table' then delay, failure = unpack(extra, 1, 2) end
    if code == 'r' then
      if failure and not memory_full then
        -- A task without a history has not failed before.
        local earlier = history and redis.call('HGET', errors, id)
        failures[#failures + 1] = {id, earlier, attempt, now, at_least_now + delay, failure, ''}
      end
      attempt, crashes = attempt + 1, 0
      add('retried', 1)
    end
    if delay > 0 then
      since = 0
      later[#later + 1] = at_least_now + delay
      later[#later + 1] = id
    elseif code == 'r' then
      since = now
      add('deferred', -1)
      if tagged then make_ready(id, t, false) else at_tail[#at_tail + 1] = id end
    elseif tagged then
      make_ready(id, t, true)
    else
      at_head[#at_head + 1] = id
    end
    written[#written + 1] = id
    written[#written + 1] = history_text(attempt, delivery, crashes, since)
  end

  local function write_put_back()
    if #written == 0 then return end
    redis.call('HSET', meta, unpack(written))
    note_errors(failures)
    if #later > 0 then
      redis.call('ZADD', delayed, unpack(later))
      delayed_changed = true
    end
    if #at_head > 0 then redis.call('LPUSH', ready, unpack(at_head)) end
    if #at_tail > 0 then redis.call('RPUSH', ready, unpack(at_tail)) end
  end

  local finished = 0

  local function record_one(outcome, result_key, t, history)
    local id, delivery, code, ran_ms, result, ttl_ms, extra = unpack(outcome, 1, 7)
    -- An expired or unreadable task did not run, nor did one that was cancelled before it took any time.
    local unrun = code == 'x' or code == 'd' or (code == 'c' or code == 'n') and ran_ms == 0
    if cancelled and code ~= 's' and redis.call('HDEL', cancel, id) == 1 then
      -- Workers of older versions send no record of a cancellation with these two: they are recorded as they are.
      local without_record = code == 'x' and extra == 0 or code == 'd' and result == ''
      if not without_record then
        if code == 'x' then result = extra end
        code = 'c'
      end
    end
    free_slot(t)
    if code == 'r' or code == 'n' then return put_back(id, t, history, delivery, code, extra) end
    finished = finished + 1
    if unrun then add('unrun', 1) end
    if code == 'f' or code == 'd' then
      local attempt = parsed_history(history)
      return bury(id, t, code == 'f' and 'failed' or 'dead', attempt, delivery, extra)
    end
    if result_key then
      redis.call('SET', result_key, result, 'PX', ttl_ms)
      if #result <= MOST_TOLD then told[id] = result end
    end
    local state = code == 's' and 'succeeded' or code == 'c' and 'cancelled' or 'expired'
    if state ~= 'succeeded' then add(state, 1) end
    ends(id, state, result, t)
  end

  local outcomes = cmsgpack.unpack(ARGV[9])
  local ids = {}
  for i = 1, #outcomes do ids[i] = outcomes[i][1] end
  local tokens = #ids > 0 and redis.call('HMGET', owner, unpack(ids)) or {}
  local held, recorded, next_result = {}, {}, last_key + 1
  local n_held, busy_ms = 0, 0
  local most = math.min(#ids, tagged and MOST_TAGGED - n_done or MOST_OTHERS)
  local tags = tagged and tags_of(ids, most) or {}
  local noted = most > 0 and redis.call('EXISTS', meta) == 1
  local histories = noted and redis.call('HMGET', meta, unpack(ids, 1, most)) or {}
  for i = 1, #outcomes do
    if i > most or buried_bytes > MOST_BYTES or large and not may_free(task, ids[i]) then
      unfinished = true
      break
    end
    n_recorded = i
    local outcome, result_key = outcomes[i], nil
    local id, delivery, code, ended_busy_ms, result, ttl_ms = unpack(outcome, 1, 6)
    if result ~= '' and ttl_ms > 0 then result_key = KEYS[next_result]; next_result = next_result + 1 end
    local token = first_token
    if delivery ~= 1 then token = me .. ':' .. delivery end
    if tokens[i] ~= token or recorded[id] then
      if is_stale(id, tokens[i]) and result_key and code == 's' then
        redis.call('SET', result_key, result, 'PX', ttl_ms, 'NX')
      end
    else
      recorded[id] = true
      n_held = n_held + 1
      held[n_held] = id
      busy_ms = busy_ms + ended_busy_ms
      record_one(outcome, result_key, tags[i], histories[i])
    end
  end
  write_put_back()
  if busy_ms > 0 then add('busy_ms', busy_ms) end
  if finished > 0 then add('finished', finished) end
  if n_held > 0 then
    lease_changed = true
    redis.call('ZREM', lease, unpack(held))
    redis.call('HDEL', owner, unpack(held))
  end
end

if unfinished then
  wanted = 0
  unrecorded = {n_done, n_recorded}
end

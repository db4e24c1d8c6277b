-- needs: keys queue/clock queue/counters queue/records queue/ready queue/inputs queue/signals queue/wake
-- The end of a waiting task.

-- Remove a task from the structure in which it waits.
-- A ready task leaves its id in the list, counted in `removed`, which saves a search through the list.
local function withdraw(id, t)
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
  else
    local due = redis.call('ZSCORE', delayed, id)
    if due then
      redis.call('ZREM', delayed, id)
      -- One that is overdue has counted as ready since its time came (stats.lua).
      if tonumber(due) <= now and not is_counted(t) then add('deferred', -1) end
      return
    end
    add('removed', 1)
  end
  -- The task may have become ready for a free slot, which another task can use now.
  if t and t.l and is_parked(t.l) then
    redis.call('ZADD', retry_at, now, t.l)
    call_a_worker()
  end
end

-- Delete the records of an unfinished task.
local function forget(id)
  redis.call('HDEL', task, id)
  redis.call('HDEL', meta, id)
  redis.call('HDEL', progress, id)
  redis.call('HDEL', errors, id)
end

-- Publish the end of a task, if a client waits for it.
local function announce_end(id, done_channel)
  if redis.call('SREM', await, id) == 1 then redis.call('PUBLISH', done_channel, id) end
end

-- End a waiting task, with `record` as its result. `reason` is for the tasks that wait for it.
local function end_waiting(id, t, result_key, record, ttl_ms, done_channel, reason)
  withdraw(id, t)
  forget(id)
  redis.call('SET', result_key, record, 'PX', ttl_ms)
  add('finished', 1)
  add('unrun', 1)
  add('cancelled', 1)
  release(id, t, 'cancelled', reason)
  announce_end(id, done_channel)
end

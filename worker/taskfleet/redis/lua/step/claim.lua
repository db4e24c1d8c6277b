-- needs: keys queue/clock queue/counters queue/records queue/ready queue/inputs queue/signals step step/slots
-- Claim up to `may_start` tasks, each with a lease and a fencing token (owner:delivery).

if may_start > 0 and not paused then
  -- The turn of the last task that was taken from `fair`.
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

  local rated = false  -- whether a task was let in by the rate limit per key

  -- Whether the limit key of a task lets it start. If not, the task is parked.
  local function admitted(id, t)
    if key_slots > 0 and taken[t.l] >= key_slots then
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
      rated = true
    end
    taken[t.l] = taken[t.l] + 1
    return true
  end

  -- Where payloads are large: the number of the next `n` tasks that fit into one call. The first always does.
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

  local leases, tokens, removed, c, looked = {}, {}, 0, 0, 0
  local awaiting = tagged and redis.call('EXISTS', input) == 1  -- whether any task has the results of others
  local noted = redis.call('EXISTS', meta) == 1
  -- A key of another program must fail the call before an id is taken from its list, where no call would find it again.
  if noted then redis.call('HEXISTS', meta, '') end
  if awaiting then redis.call('HEXISTS', input, '') end
  if tagged then
    redis.call('HEXISTS', tag, '')
    redis.call('ZCARD', fair)
  end
  local ends_at = now + tonumber(ARGV[3])
  while n_claimed < may_start and looked < 2000 do
    local n = may_start - n_claimed
    if large or passed_on_large then n = fitting(math.min(n, 16)) end
    local ids = n > 0 and take(n) or {}
    if #ids == 0 then break end
    looked = looked + #ids
    local blobs = redis.call('HMGET', task, unpack(ids))
    local histories = noted and redis.call('HMGET', meta, unpack(ids)) or {}
    local tags = tagged and tags_of(ids, #ids) or {}
    local passed_on = awaiting and redis.call('HMGET', input, unpack(ids)) or {}
    local limit_keys = {}
    for i = 1, #ids do
      if tags[i] and tags[i].l then limit_keys[#limit_keys + 1] = tags[i].l end
    end
    learn_slots(limit_keys)
    for i = 1, #ids do
      local id, blob, history, t = ids[i], blobs[i], histories[i] or '', tags[i]
      if not blob then
        removed = removed + 1  -- the id of a task that was cancelled while it was ready
      elseif not (t and t.l) or admitted(id, t) then
        local token = first_token
        if history ~= '' then token = me .. ':' .. (tonumber(string.match(history, '^%d+:(%d+):')) or 0) + 1 end
        n_claimed = n_claimed + 1
        leases[2 * n_claimed - 1] = ends_at
        leases[2 * n_claimed] = id
        tokens[2 * n_claimed - 1] = id
        tokens[2 * n_claimed] = token
        claimed[c + 1] = id
        claimed[c + 2] = tagged and unwrapped(blob) or blob
        claimed[c + 3] = history
        c = c + 3
        if passed_on[i] then
          inputs[#inputs + 1] = n_claimed - 1
          inputs[#inputs + 1] = passed_on[i]
        end
      end
    end
  end
  if n_claimed > 0 then
    redis.call('ZADD', lease, unpack(leases))
    redis.call('HSET', owner, unpack(tokens))
  end
  if rated then redis.call('PEXPIRE', arrivals, math.ceil(2 * (tolerance + interval)) + 60000) end
  if removed > 0 then add('removed', -removed) end
  -- All admitted tasks are claimed and slots are left: the limit was raised, so more tasks can be admitted.
  if key_slots > 0 and n_claimed < may_start and #freed_keys > 0 and redis.call('EXISTS', parked) == 1 then
    for _, key in ipairs(freed_keys) do
      if taken[key] < key_slots and is_parked(key) then redis.call('ZADD', retry_at, now, key) end
    end
  end
  if turn_served then
    if redis.call('EXISTS', fair) == 0 then
      end_turns()
    else
      redis.call('HSET', control, 'turn', turn_served)
      -- The last turn of a key is of no use when it is over. Two for each task that was taken keep up with the keys, so
      -- that a claim costs the same with any number of keys, and few are left when the turns end.
      local behind = redis.call('ZRANGEBYSCORE', turns, '-inf', turn_served, 'LIMIT', 0, math.min(2 * looked, 4000))
      if #behind > 0 then redis.call('ZREM', turns, unpack(behind)) end
    end
  end
end

if tokens_left then
  tokens_left = tokens_left - n_claimed
  redis.call('HSET', control, 'tokens', tostring(tokens_left), 'filled', now)
end

-- needs: keys queue/clock queue/ready step step/slots step/cancelling
-- Limit the number of tasks that may start to the limits of the queue.
let_in()

may_start = memory_full and 0 or math.min(wanted, tagged and 500 or 1000)
local limit = tonumber(ARGV[14])
if limit > 0 then may_start = math.min(may_start, limit - redis.call('ZCARD', lease)) end

-- The rate limit: a bucket of tokens in `control`, filled by the clock of Redis. A returned task has paid its token.
local rate = tonumber(ARGV[10])
if rate > 0 and wanted > 0 then
  local burst = tonumber(ARGV[11])
  local bucket = redis.call('HMGET', control, 'tokens', 'filled')
  local came = math.max(0, now - (tonumber(bucket[2]) or now)) * rate / 1000
  tokens_left = math.min(burst, (tonumber(bucket[1]) or burst) + came)
  may_start = math.min(may_start, math.floor(tokens_left))
end

-- The rate limit per key: each key's theoretical arrival time, as in the generic cell rate algorithm. A key whose tasks
-- wait for their next token is in `retry_at` with the time of that token.
local key_rate = tonumber(ARGV[16])
if key_rate > 0 then
  interval = 1000 / key_rate
  tolerance = interval * (tonumber(ARGV[17]) - 1)
end

if tagged then
  -- Make tasks ready whose limit key may be tried again, for each key as many as may start.
  local function let_keys_retry()
    local due = redis.call('ZRANGEBYSCORE', retry_at, '-inf', now, 'LIMIT', 0, 100)
    learn_slots(due)
    for _, key in ipairs(due) do
      redis.call('ZREM', retry_at, key)
      local free = 1000
      if interval > 0 then
        local arrival = math.max(now, tonumber(redis.call('ZSCORE', arrivals, key)) or 0)
        free = math.min(free, math.floor((now + tolerance - arrival) / interval) + 1)
      end
      local slots_left = key_slots > 0 and key_slots - taken[key] or 1001
      local n = math.min(free, slots_left)
      if n > 0 then unpark(key, n) end
      -- If slots are the limit, each slot that becomes free lets the next task in.
      if free < slots_left and is_parked(key) then redis.call('ZADD', retry_at, now + math.max(1, interval), key) end
    end
    -- A bucket that is full again need not be stored.
    local full = redis.call('ZRANGEBYSCORE', arrivals, '-inf', now, 'LIMIT', 0, 100)
    if #full > 0 then redis.call('ZREM', arrivals, unpack(full)) end
  end

  -- Delete the tasks of a workflow whose sender died before it was complete.
  local function drop_unconfirmed()
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', blocked, '-inf', now, 'LIMIT', 0, 10)) do
      redis.call('ZADD', blocked, now + SIGNALLED_AGAIN_MS, id)
      signal_cancelled(id, 'its workflow was never sent whole')
    end
  end

  let_keys_retry()
  drop_unconfirmed()
end

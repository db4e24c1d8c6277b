-- needs: keys queue/clock queue/counters queue/unpacking queue/records queue/ready queue/unique_keys queue/inputs queue/wake
-- Signals: the ends of tasks, told to the tasks that wait for them. A signal within the queue takes effect at once; a
-- signal to another queue goes into `outbox`, from where a client relays it. Work that is too much for one call is a
-- job in `jobs`, which drain.lua performs; `edges` then has id:number → some of the waiting tasks, and id → the
-- progress of the job.

local here = string.match(KEYS[1], '{(.-)}:ready$')  -- the name of this queue
local MOST_SIGNALS = 300  -- in one call

local passed_on_large = false  -- whether this call has passed results on that are large together

-- A task that `id` waits for has succeeded. A signal that is delivered twice counts once.
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
    local packed = cmsgpack.pack(values)
    redis.call('HSET', input, id, packed)
    if #packed > 10000 then  -- from now on claims check the size of each
      passed_on_large = true
      redis.call('HSET', control, 'large', 1)
    end
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
    add('deferred', -1)
    come_due(id, t, 1, 0, 0)
  end
  call_a_worker()
end

-- Signal the task at the end of one edge. A task cannot run if the result that it takes was not kept.
local function signal_one(id, edge, state, value)
  local queue, waiting, position, takes_result = unpack(type(edge) == 'table' and edge or {}, 1, 4)
  if not (text_or_nil(queue) and text_or_nil(waiting) and number_or_nil(position)) then return end
  local sent = (state ~= 'succeeded' or takes_result == 1) and value or ''
  if state == 'succeeded' and takes_result == 1 and value == '' then
    state, sent = 'ended', 'its result is not kept (result_ttl=0)'
  end
  if state == 'succeeded' and queue == here then
    resolve(waiting, position, sent)
  else
    redis.call('RPUSH', outbox, cmsgpack.pack({queue, waiting, position, id, state, sent}))
  end
end

-- Signal all tasks that wait for a task. If they are many or large, this becomes a job.
local signalled_edges = 0

local function signal_all(id, t, state, value)
  if not t.n then return end
  signalled_edges = signalled_edges + #t.n
  if not t.e and signalled_edges <= MOST_SIGNALS and (#t.n == 1 or #t.n * #value <= MOST_BYTES) then
    for _, edge in ipairs(t.n) do signal_one(id, edge, state, value) end
  else
    redis.call('HSET', edges, id .. ':0', cmsgpack.pack(t.n), id, '0:0')
    redis.call('RPUSH', jobs, cmsgpack.pack({'tell', id, t.e or 0, state, value}))
  end
end

-- The number of signals and jobs that clients have to handle after this call.
local function signals_left() return redis.call('LLEN', outbox) + redis.call('LLEN', jobs) end

-- A task that has a tag has ended: its unique key goes to the follower, and the tasks that wait for it are signalled.
local function hand_over(id, t, state, value)
  if t.u then
    if redis.call('HGET', unique, t.u) == id then
      redis.call('HDEL', unique, t.u)
      promote(t.u)
    elseif redis.call('HGET', unique, t.u .. '\0') == id then
      redis.call('HDEL', unique, t.u .. '\0')
    end
  end
  signal_all(id, t, state, value)
end

-- A task has ended and its id is removed from all structures.
local function release(id, t, state, value)
  drop_input(id, state)
  if not t then return end
  redis.call('HDEL', tag, id)
  hand_over(id, t, state, value)
end

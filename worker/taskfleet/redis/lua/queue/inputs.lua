-- needs: keys queue/clock
-- Blocked tasks, which wait for other tasks, and the results that arrive for them.
-- `gather` has for a blocked task id → pending:total:carried:delay_ms, and id:position → the result of a task that it
-- waits for. The first `carried` results are passed on: once all have arrived, they are moved to `input`. `blocked` has
-- the time until which the task waits unless its workflow is complete.

local GATHERED = 1000  -- results that one call may handle
local MOST_GATHERED = 10000000  -- more positions than that were written by another program
local MOST_BYTES = 2000000  -- of payloads, inputs and letters in one call

-- A task waits for `pending` others, of which `carried` pass their results on. `unless` is in ms; 0 means without
-- limit.
local function block(id, pending, carried, delay_ms, unless)
  redis.call('HSET', gather, id, string.format('%d:%d:%d:%d', pending, pending, carried, delay_ms))
  redis.call('ZADD', blocked, unless > 0 and now + unless or '+inf', id)
end

-- pending, total, carried and delay in ms of a record in `gather`; no values when another program has written it.
local function parsed_gather(record)
  local pending, total, carried, delay = string.match(record, '^(%d+):(%d+):(%d+):(%d+)$')
  pending, total, carried, delay = tonumber(pending), tonumber(total), tonumber(carried), tonumber(delay)
  if not pending or math.max(total, carried) > MOST_GATHERED then return nil end
  return pending, total, carried, delay
end

-- Visit the fields of `gather` for the first `n` positions of a task, a thousand at a time.
local function each_thousand(id, n, visit)
  for first = 0, n - 1, 1000 do
    local fields = {}
    for position = first, math.min(first + 1000, n) - 1 do fields[#fields + 1] = id .. ':' .. position end
    visit(fields)
  end
end

-- Let drain.lua drop the results that have arrived for a task, a few in each call.
local function sweep(id, total)
  redis.call('HSET', edges, id .. '\0', 0)
  redis.call('RPUSH', jobs, cmsgpack.pack({'sweep', id, total}))
end

local n_dropped = 0  -- results that this call has dropped

-- Drop the results that have arrived for a task that is no longer blocked.
local function drop_gathered(id, total)
  redis.call('ZREM', blocked, id)
  redis.call('HDEL', gather, id)
  if n_dropped + total > GATHERED then return sweep(id, total) end
  n_dropped = n_dropped + total
  each_thousand(id, total, function(fields) redis.call('HDEL', gather, unpack(fields)) end)
end

-- A wide task can run only on workers that know `edges` and paged inputs. To other workers its envelope is of a newer
-- version, so they return the task to its queue.
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

local n_copied, copied_bytes = 0, 0  -- results that this call has copied for tasks

-- Whether the results for a task are more than this call may still copy. Then they stay in `gather`, `input` has their
-- number, and the worker that claims the task reads them page by page.
local function is_wide(id, carried)
  if n_copied + carried > GATHERED then return true end
  local bytes = 0
  for position = 0, carried - 1 do bytes = bytes + redis.call('HSTRLEN', gather, id .. ':' .. position) end
  n_copied = n_copied + carried
  if copied_bytes + bytes > MOST_BYTES then return true end
  copied_bytes = copied_bytes + bytes
  return false
end

-- The number of positions in `gather` of a paged input; nil for an input of another kind.
local function paged(passed_on)
  local total = passed_on and string.match(passed_on, '^[\160-\191]%d+ of (%d+) in pages$')
  return tonumber(total)
end

-- Drop the results that were passed on to a task. A dead letter keeps its paged results.
local function drop_input(id, state)
  local passed_on = redis.call('HGET', input, id)
  if not passed_on then return end
  local total = paged(passed_on)
  if total and (state == 'failed' or state == 'dead') then return end
  redis.call('HDEL', input, id)
  if total then sweep(id, total) end
end

-- Drop the results that were passed on to the tasks of these dead letters, which are deleted. A task of that id that is
-- in the queue again keeps its own.
local function drop_inputs_of_letters(ids)
  if redis.call('EXISTS', input) == 0 then return end
  for i = 1, #ids do
    if redis.call('HEXISTS', task, ids[i]) == 0 then drop_input(ids[i], 'gone') end
  end
end

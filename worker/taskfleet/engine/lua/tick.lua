-- Let one tick of a schedule happen: set its next tick and add its task, or pass over it, in one step.
-- KEYS  1-13 of the queue (engine/keys.py)  14 schedules  15 ticks  16 ticked
--       17 only with ARGV 12: the result key of that task
-- ARGV  1 activity channel  2 queue name  3 max_length (0 = unlimited)  4 control channel  5 done channel
--       6 schedule  7 revision of its spec  8 the tick that is due, ms  9 the tick after it, ms (0 = there is none)
--       10 the tick to fire, ms: the latest of those that were missed (0 = all of them are too late)
--       11 id of the task to add  12 id of the task that the last tick added, as far as known ('' = none)
--       13 result record, should that one be replaced  14 its ttl_ms  15 1 when ticks were too late
-- REPLY fired, skipped (Forbid: the last task is not finished), dropped (too late); or, with nothing changed: stale
--       (another scheduler was first, or the schedule is not what the caller has read), early, full
-- Whoever comes second finds another tick, so each happens once, however many schedulers there are. The clock is Redis'.
-- What this writes of the queue is what enqueue.lua writes for a task without delay, and cancel.lua for one task.
local ready, task, meta, owner, delayed, stat, wake, cancel, await =
  KEYS[1], KEYS[2], KEYS[3], KEYS[5], KEYS[6], KEYS[9], KEYS[11], KEYS[12], KEYS[13]
local schedules, ticks, ticked = KEYS[14], KEYS[15], KEYS[16]
local name, fire, id = ARGV[6], tonumber(ARGV[10]), ARGV[11]

local tick = redis.call('ZSCORE', ticks, name)
if not tick or tonumber(tick) ~= tonumber(ARGV[8]) then return 'stale' end
local packed = redis.call('HGET', schedules, name)
local spec = packed and cmsgpack.unpack(packed)
if not spec or spec[2] ~= ARGV[7] then return 'stale' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now < tonumber(tick) then return 'early' end

local state = redis.call('HGET', ticked, name)
state = state and cmsgpack.unpack(state) or {0, '', 0, 0, 0}
local previous = state[2]
-- A task is in `task` until its outcome is recorded: one that failed, died or was cancelled is not there any more.
local unfinished = previous ~= '' and redis.call('HEXISTS', task, previous) == 1
local replace = fire > 0 and unfinished and spec[4] == 'Replace'
if replace and previous ~= ARGV[12] then return 'stale' end
local running = replace and redis.call('HEXISTS', owner, previous) == 1

local result = 'dropped'
if fire > 0 and unfinished and spec[4] == 'Forbid' then
  result = 'skipped'
  state[4] = state[4] + 1
elseif fire > 0 then
  local before = redis.call('LLEN', ready)
  local limit = tonumber(ARGV[3])
  -- A waiting task that is replaced makes room for the one that replaces it.
  if limit > 0 and not (replace and not running) and before + redis.call('ZCARD', delayed) + 1 > limit then
    return 'full'
  end
  if running then
    redis.call('HSET', cancel, previous, 1)
    redis.call('PUBLISH', ARGV[4], 'cancel ' .. previous)
  elseif replace then
    if redis.call('ZREM', delayed, previous) == 0 then redis.call('HINCRBY', stat, 'removed', 1) end
    redis.call('HDEL', task, previous)
    redis.call('HDEL', meta, previous)
    redis.call('SET', KEYS[17], ARGV[13], 'PX', ARGV[14])
    redis.call('HINCRBY', stat, 'finished', 1)
    redis.call('HINCRBY', stat, 'cancelled', 1)
    if redis.call('SREM', await, previous) == 1 then redis.call('PUBLISH', ARGV[5], previous) end
  end
  redis.call('HSET', task, id, struct.pack('>d', now) .. spec[5])
  redis.call('HINCRBY', stat, 'enqueued', 1)
  redis.call('RPUSH', ready, id)
  if redis.call('LLEN', wake) == 0 then
    redis.call('RPUSH', wake, 1)
    redis.call('PEXPIRE', wake, 60000)
  end
  if before == 0 then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
  result = 'fired'
  state[1], state[2], state[3] = fire, id, state[3] + 1
end
if ARGV[15] == '1' then state[5] = state[5] + 1 end
redis.call('HSET', ticked, name, cmsgpack.pack(state))
if tonumber(ARGV[9]) > 0 then
  redis.call('ZADD', ticks, ARGV[9], name)
else
  redis.call('ZREM', ticks, name)
end
return result

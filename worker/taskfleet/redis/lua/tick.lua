-- needs: keys queue/clock queue/counters queue/wake queue/unpacking queue/length queue/records queue/unique_keys queue/signals queue/ending queue/adding
-- Perform one tick of a schedule in one step: set its next tick, and add its task or skip it.
-- KEYS  the queue's (redis/keys.py); schedules; ticks; ticked; only with ARGV 12: the result key of that task
-- ARGV  1 activity channel  2 queue name  3 max_length (0 = unlimited)  4 control channel  5 done channel
--       6 schedule  7 revision of its spec  8 the tick that is due, ms  9 the tick after it, ms (0 = there is none)
--       10 the tick to fire, ms: the latest of those that were missed (0 = all of them are too late)
--       11 messagepack (id, envelope, delay_ms, more) of the task to add; more is a map with u unique key, m its mode
--       (k keep, r replace, d debounce), l limit key, f fair key  12 id of a waiting task that may be replaced ('' = none)
--       13 the record of its end  14 that one's ttl_ms  15 its reason  16 1 when ticks were too late
-- REPLY {fired, skipped (Forbid: the last task is not finished; or the unique key is taken) or dropped (too late);
--       signals in the outbox}, or, without any change, {stale (another scheduler was first, or the schedule has
--       changed since the caller read it), early or full; 0}, or {name; id}: call again with that task in ARGV 12
-- A second scheduler finds another tick, so each tick happens once with any number of schedulers. All times are by the
-- clock of Redis.
local schedules, ticks, ticked = KEYS[last_key + 1], KEYS[last_key + 2], KEYS[last_key + 3]
local name, fire = ARGV[6], tonumber(ARGV[10])

local tick = redis.call('ZSCORE', ticks, name)
if not tick or tonumber(tick) ~= tonumber(ARGV[8]) then return {'stale', 0} end
local packed = redis.call('HGET', schedules, name)
local spec = packed and unpacked(packed)
local _, revision, _, policy = unpack(spec or {}, 1, 4)
if not spec or revision ~= ARGV[7] then return {'stale', 0} end
if now < tonumber(tick) then return {'early', 0} end

local id, envelope, delay, more = unpack(cmsgpack.unpack(ARGV[11]), 1, 4)
local state = redis.call('HGET', ticked, name)
local last_ms, previous, fired, skipped, dropped = unpack(state and unpacked(state) or {0, '', 0, 0, 0}, 1, 5)

local function unfinished(other) return redis.call('HEXISTS', task, other) == 1 end
local function running(other) return redis.call('HEXISTS', owner, other) == 1 end

-- Tasks that prevent this tick: `refused` says that one stays, `waiting` and `interrupted` are cancelled.
local refused, waiting, interrupted, was_due, follows = false, nil, nil, nil, false
-- A task is in `task` until its outcome is recorded: one that failed, died or was cancelled is not there any more.
if fire > 0 and previous ~= '' and policy ~= 'Allow' and unfinished(previous) then
  if policy == 'Forbid' then
    refused = true
  elseif running(previous) then
    interrupted = previous
  else
    waiting = previous
  end
end
if fire > 0 and more.u and not refused then
  local holder, follower = holder_of(more.u), follower_of(more.u)
  -- Of the tasks of a key, the newest waiting one is replaced. A running one is not, so the new task follows it.
  if more.m == 'k' and (follower or holder and holder ~= interrupted and holder ~= waiting) then
    refused = true
  elseif holder and (follower or holder ~= waiting) then
    follows = follower ~= nil or running(holder)
    waiting = follower or not follows and holder or waiting
    if waiting and more.m == 'r' then was_due = due_again(waiting, tag_of(waiting)) end
  end
end
if waiting and not refused and waiting ~= ARGV[12] then
  write_counts()
  return {'name', waiting}
end

local result = 'dropped'
if refused then
  result = 'skipped'
  skipped = skipped + 1
elseif fire > 0 then
  local limit = tonumber(ARGV[3])
  if limit > 0 and not waiting then  -- a waiting task that is replaced makes room for the new one
    if waiting_tasks() + 1 > limit then
      write_counts()
      return {'full', 0}
    end
  end
  local nothing_ready = redis.call('EXISTS', fair) == 0 and redis.call('LLEN', ready) == 0
  if interrupted then
    redis.call('HSET', cancel, interrupted, 1)
    redis.call('PUBLISH', ARGV[4], 'cancel ' .. interrupted)
  end
  if waiting then
    end_waiting(waiting, tag_of(waiting), KEYS[last_key + 4], ARGV[13], ARGV[14], ARGV[5], ARGV[15])
  end
  put(id, envelope, more, was_due or now + delay, follows)
  add('enqueued', 1)
  call_a_worker()
  if nothing_ready then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
  result = 'fired'
  last_ms, previous, fired = fire, id, fired + 1
end
write_counts()
if ARGV[16] == '1' then dropped = dropped + 1 end
redis.call('HSET', ticked, name, cmsgpack.pack({last_ms, previous, fired, skipped, dropped}))
if tonumber(ARGV[9]) > 0 then
  redis.call('ZADD', ticks, ARGV[9], name)
else
  redis.call('ZREM', ticks, name)
end
return {result, signals_left()}

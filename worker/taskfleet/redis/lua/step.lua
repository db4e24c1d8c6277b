-- needs: keys step/when_called queue/records
-- then: step/record step/take_over step/end step/move_due step/trim_dead step/apply_limits step/claim step/reply
-- Record outcomes and claim tasks in one call, the most frequent of a worker. memory/step.py does the same in Python.
-- KEYS  the queue's (redis/keys.py); the result keys of the outcomes that carry a result and keep it, in order
-- ARGV  1 owner (worker incarnation)  2 slots to fill  3 lease_ms  4 max_deliveries  5 takeover limit
--       6 dead letters kept  7 dead letters' ttl_ms  8 done channel  9 messagepack list of outcomes
--       10 rate limit (tasks per second, 0 = none)  11 its burst
--       12 busy_ms of 13 in all  13 messagepack list of ids: first deliveries that succeeded and keep no result
--       14 tasks that may run at once, 15 and per limit key (0 = any)  16 rate limit per limit key  17 its burst
--       18 ended channel
--       An outcome is (id, delivery, code, busy_ms, result, ttl_ms, extra): protocol/outcome.py has the codes. The
--       extra of the code r is (delay in ms, error record). The
--       result of the codes r, n, f and d, and the extra of x, is the record for a task that was cancelled in the
--       meantime. A result with ttl_ms 0 is not kept, only passed on to the tasks that wait for it.
-- REPLY {now_ms, still claimable, ms to the next event, lease end or token (-1 none), {stale ids},
--       {id, envelope, history, ...}, {position among the claimed, packed results of the tasks it waited for, ...},
--       signals in the outbox, 1 when Redis is out of memory and nothing is claimed,
--       {id, attempt, crashes, 1 when it is a dead letter now, start of its envelope, ...} of the tasks taken over,
--       {processed entries of ARGV 13 and of ARGV 9} when not all were: no task is claimed, and the rest is sent next,
--       number of stale ids of which Redis knows nothing}
-- An outcome whose fencing token (owner:delivery) is not the one in `owner` has no effect. Only the result of a task of
-- which Redis knows nothing (queue/unknown.lua) is kept, unless the task has a result. The lease, the token and the
-- payload of a claimed task are in Redis before the worker sees the claim.
-- The acts named under `then` follow in this order, each in a block. This file declares the values that they share.

local claimed_at_once = claim_when_called()
if claimed_at_once then return claimed_at_once end

-- A write that has no effect. Redis refuses it when it is out of memory, or is no master. Out of memory, a script may
-- do anything after a write that needs no memory: then outcomes are recorded, and no task is claimed.
local probe, memory_full = redis.pcall('ZADD', lease, 'XX', 0, ''), false
if type(probe) == 'table' and probe.err then
  if not string.find(probe.err, 'OOM', 1, true) then return probe end
  memory_full = true
  redis.call('HDEL', owner, '')
end

local me, wanted = ARGV[1], tonumber(ARGV[2])  -- an act that leaves work for the next call sets wanted to 0
local first_token = me .. ':1'
-- Most queues have no tags, turns, limits per key or workflows: one check saves all others.
local tagged = redis.call('EXISTS', tag, fair, parked, blocked, input, outbox, jobs, arrivals, retry_at) > 0
local marks = redis.call('HMGET', control, 'paused', 'large')
local paused, large = marks[1], marks[2]

local function first_score(key) return tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]) end
-- The end of the first lease and the due time of the first delayed task, read once, since both rarely change in a call.
local first_end, first_due = first_score(lease), first_score(delayed)
local lease_changed = false

local ended, n_ended = {}, 0  -- ids of the tasks that have ended in this call
local ended_how = {}  -- id → state and value, for the tasks that wait for it, and its tag
local told, MOST_TOLD = {}, 8000  -- id → result, small enough to be published with the end of the task
local stale = {}  -- ids of outcomes with an old fencing token
local n_unknown = 0  -- of these, tasks of which Redis knows nothing
local unrecorded  -- {processed entries of ARGV 13 and of ARGV 9}, when not all were
local taken_over = {}
local signalled = tagged  -- whether there may be signals in the outbox
local may_start = 0
local tokens_left  -- of the queue's rate limit, when it has one
local key_slots = tonumber(ARGV[15])
local interval, tolerance = 0, 0  -- of the rate limit per key, ms
local claimed, inputs, n_claimed = {}, {}, 0

local function tag_if_any(id) return tagged and tag_of(id) or nil end

local function ends(id, state, value, t)
  n_ended = n_ended + 1
  ended[n_ended] = id
  if tagged then ended_how[id] = {state, value, t} end
end

-- Freeing memory takes time. Where payloads are large, one call frees so many bytes, or a single larger payload.
local MOST_FREED = 32000000
local freed_bytes = 0

-- Whether this call may free the value of `id` in `hash`; if so, its size is counted.
local function may_free(hash, id)
  local size = redis.call('HSTRLEN', hash, id) + (tagged and redis.call('HSTRLEN', input, id) or 0)
  if freed_bytes > 0 and freed_bytes + size > MOST_FREED then return false end
  freed_bytes = freed_bytes + size
  return true
end

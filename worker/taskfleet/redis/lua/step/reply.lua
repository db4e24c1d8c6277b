-- needs: keys queue/clock queue/counters queue/signals queue/wake queue/ready step step/slots
-- The reply: the claims, the number of tasks that can be claimed at once, and the time of the next event.
write_counts()
if tagged then write_slots() end

local waiting = redis.call('LLEN', ready)
local signals = 0
local horizon = -1  -- ms to the next event; -1 when none is known

-- The next event is `slack` ms after the time `score`, or earlier.
local function expect(score, slack)
  if score and score < 1e15 then
    local ms = math.max(0, score - now) + slack
    if horizon < 0 or ms < horizon then horizon = ms end
  end
end

if delayed_changed then first_due = first_score(delayed) end
if lease_changed then first_end = first_score(lease) end
if n_claimed > 0 then first_end = math.min(first_end or math.huge, now + tonumber(ARGV[3])) end
expect(first_due, 0)
expect(first_end, 1)  -- a lease is taken over in the millisecond after its end
if tagged then
  expect(first_score(retry_at), 0)
  waiting = waiting + redis.call('ZCARD', fair)
end
if signalled then
  expect(first_score(blocked), 0)
  signals = signals_left()
end
-- Before the next token, or before a running task ends, no task can be claimed: the reply reports this.
if waiting > 0 and tokens_left and tokens_left < 1 then
  waiting = 0
  expect(now + math.ceil((1 - tokens_left) * 1000 / tonumber(ARGV[10])), 0)
end
local limit = tonumber(ARGV[14])
if may_start > 0 and paused or limit > 0 and redis.call('ZCARD', lease) >= limit then waiting = 0 end
-- Without memory no task can be claimed either: the next check is in a second.
if memory_full then
  waiting = 0
  if horizon < 0 or horizon > 1000 then horizon = 1000 end
end
-- A worker that is full now notifies the next one, which learns the ready tasks and the next due time.
if n_claimed >= wanted and (waiting > 0 or first_due) then call_a_worker() end
return {
  now, waiting, horizon, stale, claimed, inputs, signals, memory_full and 1 or 0, taken_over, unrecorded or {}, n_unknown,
}

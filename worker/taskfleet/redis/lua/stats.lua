-- needs: keys queue/clock queue/records
-- The figures of one queue, at constant cost (ZCOUNT is logarithmic).
-- KEYS  the queue's (redis/keys.py); ticks
-- ARGV  1 horizon_ms: delayed tasks and ticks that are due within it are counted as due  2 soon_ms: a second, shorter one
-- REPLY {ready, in_flight, delayed, due, dead, oldest_age_ms, enqueued, finished, failed, busy_ms, paused, blocked,
--       became ready, ran, parked, due soon, ticks due, ticks due soon}
-- A task that is overdue but not yet moved counts as ready, since only a step of a worker moves it. So does a signal in
-- the outbox. A parked task, which waits for a slot or token of its limit key, counts as delayed. A schedule that is
-- paused has no tick.
local counted = redis.call('HMGET', stat,
  'enqueued', 'finished', 'failed', 'busy_ms', 'removed', 'deferred', 'retried', 'unrun')
local ticks = KEYS[last_key + 1]
local overdue = redis.call('ZCOUNT', delayed, '-inf', now)
local listed = redis.call('LLEN', ready)
local in_turns = redis.call('ZCARD', fair)
local n_ready = math.max(0, listed - math.max(0, tonumber(counted[5]) or 0)) + in_turns + overdue + redis.call('LLEN', outbox)
  + redis.call('LLEN', jobs)

local age = 0
for _, head in ipairs({redis.call('LINDEX', ready, 0) or '', redis.call('ZRANGE', fair, 0, 0)[1] or ''}) do
  if head ~= '' then
    local note = redis.call('HGET', meta, head)
    local since = note and tonumber(string.match(note, ':(%d+)$')) or 0
    if since == 0 then
      local blob = redis.call('HGET', task, head)
      since = blob and #blob >= 8 and struct.unpack('>d', blob) or now
      if not (since >= 0 and since <= now) then since = now end  -- another program has written the stamp, or it is not even a number
    end
    age = math.max(age, now - since)
  end
end
if overdue > 0 then
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  age = math.max(age, now - tonumber(first[2]))
end

-- The overdue tasks that a step has yet to count.
local function uncounted()
  if overdue == 0 or redis.call('EXISTS', unique) == 0 then return overdue end
  local n = overdue
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 200)) do
    if is_counted(tag_of(id)) then n = n - 1 end
  end
  return n
end

local counters = {}
for i = 1, 8 do counters[i] = tonumber(counted[i]) or 0 end
-- A queue that no worker of this version has served has no `deferred`: its tasks counted as ready when they were accepted.
local became_ready = counters[1] - counters[6] + (counted[6] and uncounted() or 0)
local ran = counters[2] + counters[7] - counters[8]
local later, soon = now + tonumber(ARGV[1]), now + tonumber(ARGV[2])

return {
  n_ready, redis.call('ZCARD', lease), redis.call('ZCARD', delayed) - overdue + redis.call('ZCARD', parked),
  redis.call('ZCOUNT', delayed, '(' .. now, later), redis.call('ZCARD', dead), age,
  counters[1], counters[2], counters[3], counters[4],
  redis.call('HEXISTS', control, 'paused'), redis.call('ZCARD', blocked), became_ready, ran, redis.call('ZCARD', parked),
  redis.call('ZCOUNT', delayed, '(' .. now, soon), redis.call('ZCOUNT', ticks, '-inf', later),
  redis.call('ZCOUNT', ticks, '-inf', soon),
}

-- needs: keys queue/clock
-- The figures of one queue, at constant cost (ZCOUNT is logarithmic).
-- KEYS  the queue's (redis/keys.py)
-- ARGV  1 horizon_ms: delayed tasks that are due within it are counted as due
-- REPLY {ready, in_flight, delayed, due, dead, oldest_age_ms, enqueued, finished, failed, busy_ms, paused, blocked}
-- A task that is overdue but not yet moved counts as ready, since only a step of a worker moves it. So does a signal in
-- the outbox. A parked task, which waits for a slot or token of its limit key, counts as delayed.
local counted = redis.call('HMGET', stat, 'enqueued', 'finished', 'failed', 'busy_ms', 'removed')
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
return {
  n_ready, redis.call('ZCARD', lease), redis.call('ZCARD', delayed) - overdue + redis.call('ZCARD', parked),
  redis.call('ZCOUNT', delayed, '(' .. now, now + tonumber(ARGV[1])), redis.call('ZCARD', dead), age,
  tonumber(counted[1]) or 0, tonumber(counted[2]) or 0, tonumber(counted[3]) or 0, tonumber(counted[4]) or 0,
  redis.call('HEXISTS', control, 'paused'), redis.call('ZCARD', blocked),
}

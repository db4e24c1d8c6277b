-- What there is to know of one queue, at constant cost (ZCOUNT is logarithmic).
-- KEYS  1-13 of the queue (engine/keys.py)
-- ARGV  1 horizon_ms: delayed work due within it is counted as due
-- REPLY {ready, in_flight, delayed, due, dead, oldest_age_ms, enqueued, finished, failed, busy_ms, paused}
-- Work that is overdue but not yet moved counts as ready: with no worker there is nobody to move it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stat = redis.call('HMGET', KEYS[9], 'enqueued', 'finished', 'failed', 'busy_ms', 'removed')
local overdue = redis.call('ZCOUNT', KEYS[6], '-inf', now)
local listed = redis.call('LLEN', KEYS[1])
local ready = math.max(0, listed - (tonumber(stat[5]) or 0)) + overdue

local age = 0
local head = redis.call('LINDEX', KEYS[1], 0)
if head then
  local note = redis.call('HGET', KEYS[3], head)
  local since = note and tonumber(string.match(note, ':(%d+)$')) or 0
  if since == 0 then
    local blob = redis.call('HGET', KEYS[2], head)
    since = blob and struct.unpack('>d', blob) or now
  end
  age = math.max(0, now - since)
end
if overdue > 0 then
  local first = redis.call('ZRANGE', KEYS[6], 0, 0, 'WITHSCORES')
  age = math.max(age, now - tonumber(first[2]))
end
return {
  ready, redis.call('ZCARD', KEYS[4]), redis.call('ZCARD', KEYS[6]) - overdue,
  redis.call('ZCOUNT', KEYS[6], '(' .. now, now + tonumber(ARGV[1])), redis.call('ZCARD', KEYS[7]), age,
  tonumber(stat[1]) or 0, tonumber(stat[2]) or 0, tonumber(stat[3]) or 0, tonumber(stat[4]) or 0,
  redis.call('HEXISTS', KEYS[10], 'paused'),
}

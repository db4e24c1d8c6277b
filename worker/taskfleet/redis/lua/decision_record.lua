-- needs: queue/clock
-- Keep one decision of a scaler, and drop its oldest ones beyond the bounds.
-- KEYS  1 its decisions, oldest first  2 scaler → its last decision, ms  3 scaler → a summary of it
-- ARGV  1 scaler  2 the decision, packed  3 the summary, packed  4 most decisions  5 most bytes of them  6 ms that a
--       decision is kept  7 ms that a scaler is remembered  8 most scalers
-- REPLY the number of its decisions
-- An entry is the bytes of all entries until its end, the time in ms, and the decision. So the bytes of the whole list
-- are told by its ends. A summary has the time before it, too.
local function number_at(entry, position)
  if not entry or #entry < 16 then return 0 end  -- another program has written it
  local found = struct.unpack('>d', entry, position)
  return found >= 0 and found < 2 ^ 53 and found or 0  -- beyond that, what is added would be lost
end

local bytes = number_at(redis.call('LINDEX', KEYS[1], -1), 1) + #ARGV[2] + 16
redis.call('RPUSH', KEYS[1], struct.pack('>dd', bytes, now) .. ARGV[2])
for _ = 1, 20 do
  local head = redis.call('LINDEX', KEYS[1], 0)
  local held = bytes - number_at(head, 1) + #head
  local old = number_at(head, 9) < now - ARGV[6]
  if not old and held <= tonumber(ARGV[5]) and redis.call('LLEN', KEYS[1]) <= tonumber(ARGV[4]) then break end
  redis.call('LPOP', KEYS[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[6])

local forgotten = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[7], 'LIMIT', 0, 100)
local room = tonumber(ARGV[8]) - 1 - redis.call('ZCARD', KEYS[2])
if room < 0 and not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, math.min(99, -room - 1))) do forgotten[#forgotten + 1] = name end
end
for _, name in ipairs(forgotten) do
  redis.call('ZREM', KEYS[2], name)
  redis.call('HDEL', KEYS[3], name)
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], struct.pack('>d', now) .. ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call('PEXPIRE', KEYS[3], ARGV[7])
return redis.call('LLEN', KEYS[1])

-- needs: queue/clock
-- The ticks that are due of one queue's schedules, and when to look again. Reads only.
-- KEYS  1 schedules  2 ticks  3 ticked
-- ARGV  1 how many at most  2 how many of the first to pass over  3 name of the last of these: when another stands
--       at its position, none is passed over
-- REPLY {now_ms, first tick that is not due yet in ms or -1, {name, tick_ms, spec, state or '', …}, 1 when more is due,
--       position of the last that was looked at, its name}
local limit = tonumber(ARGV[1])
local MOST_BYTES = 4000000  -- that one call copies, or one schedule that is larger
local due, bytes, looked, last = {}, 0, tonumber(ARGV[2]), ARGV[3]
if looked > 0 and redis.call('ZRANGE', KEYS[2], looked - 1, looked - 1)[1] ~= last then looked = 0 end
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'WITHSCORES', 'LIMIT', looked, limit)
for i = 1, #found, 2 do
  local spec = redis.call('HGET', KEYS[1], found[i])
  local state = spec and redis.call('HGET', KEYS[3], found[i]) or ''
  bytes = bytes + #(spec or '') + #state
  if bytes > MOST_BYTES and #due > 0 then break end
  looked, last = looked + 1, found[i]
  if spec then
    due[#due + 1] = found[i]
    due[#due + 1] = tonumber(found[i + 1])
    due[#due + 1] = spec
    due[#due + 1] = state
  end
end
local later = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local more = redis.call('ZCOUNT', KEYS[2], '-inf', now) > looked
return {now, later[2] and tonumber(later[2]) or -1, due, more and 1 or 0, looked, last}

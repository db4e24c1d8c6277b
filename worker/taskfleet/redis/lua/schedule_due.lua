-- needs: queue/clock
-- The due ticks of one queue's schedules, and the time of the next one. It only reads.
-- KEYS  1 schedules  2 ticks  3 ticked
-- ARGV  1 maximal number  2 number of schedules to skip at the start  3 name of the last of these: when another one is
--       at its position, none is skipped
-- REPLY {now_ms, first tick that is not due yet in ms or -1, {name, tick_ms, spec, state or '', …},
--       1 when more are due, position of the last examined schedule, its name}
local limit = tonumber(ARGV[1])
local MOST_BYTES = 4000000  -- in one call, unless a single schedule is larger
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

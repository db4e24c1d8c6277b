-- Add a schedule, or replace the schedule of that name. A call that is sent twice has the same effect as one.
-- KEYS  1 schedules  2 ticks
-- ARGV  1 name  2 spec (messagepack, scheduling/record.py)  3 its next tick by the new timing, ms  4 schedules channel
--       5 the spec that is replaced, or '' for any or none
-- REPLY {next tick, ms}, {} when it is paused, or {-1}, without any change, when another spec than ARGV 5 is there
-- A timing that has not changed keeps its next tick, even an overdue one, so a replacement neither loses nor repeats a
-- tick. One that is no time, which another program has written, is not kept: the schedule would never tick.
-- A name in `ticks` is always in `schedules` too; a paused schedule is in `schedules` only.
local LAST_MS = 253402300799000  -- foreign.LAST_MS
local name, new = ARGV[1], cmsgpack.unpack(ARGV[2])
local packed = redis.call('HGET', KEYS[1], name)
-- A call that is sent twice finds its own spec.
if ARGV[5] ~= '' and packed ~= ARGV[5] and packed ~= ARGV[2] then return {-1} end
local tick = tonumber(redis.call('ZSCORE', KEYS[2], name) or '')
local is_time = tick and tick >= 0 and tick <= LAST_MS
redis.call('HSET', KEYS[1], name, ARGV[2])
local reply = {}
local _, _, timing, _, _, paused = unpack(new, 1, 6)
if paused == 1 then
  redis.call('ZREM', KEYS[2], name)
else
  local sound, old = pcall(cmsgpack.unpack, packed or '')
  local _, _, old_timing = unpack(sound and type(old) == 'table' and old or {}, 1, 3)
  if not (is_time and old_timing == timing) then
    tick = ARGV[3]
    redis.call('ZADD', KEYS[2], tick, name)
  end
  reply[1] = tonumber(tick)
end
redis.call('PUBLISH', ARGV[4], name)
return reply

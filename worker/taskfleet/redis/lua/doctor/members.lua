-- needs: doctor/faults
-- Check the next members of one structure. It changes nothing.
-- KEYS  the queue's (redis/keys.py); schedules; ticks; ticked
-- ARGV  1 part  2 cursor of the scan  3 about so many members
-- REPLY {next cursor, members looked at, their bytes, {code, member, evidence, ...}, {tasks that are ready or lost, or
--       schedules without a tick, ...}}
-- A member that is there throughout a scan is looked at once or more.
local part = ARGV[1]
local verb = SCORED[part] and 'ZSCAN' or part == 'await' and 'SSCAN' or 'HSCAN'
-- Each is called by its name, since the rights of a user are computed from the words of a script.
local scan = {
  ZSCAN = function(...) return redis.call('ZSCAN', ...) end,
  SSCAN = function(...) return redis.call('SSCAN', ...) end,
  HSCAN = function(...) return redis.call('HSCAN', ...) end,
}
local page = scan[verb](KEY_OF[part], ARGV[2], 'COUNT', ARGV[3])
local flat, step, bytes = page[2], part == 'await' and 1 or 2, 0
for i = 1, #flat, step do
  member_now = flat[i]
  local value = step == 2 and flat[i + 1] or ''
  bytes = bytes + #member_now + #value
  checks[part](member_now, value)
end
return {page[1], #flat / step, bytes, faults, unplaced}

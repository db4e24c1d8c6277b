-- needs: keys queue/clock queue/records queue/ready queue/unique_keys doctor/faults queue/wake
-- Check, and on request repair, what only a look at a whole partition can tell: its counters, its limit keys, its turns,
-- and that its keys do not expire.
-- KEYS  the queue's (redis/keys.py); schedules; ticks; ticked
-- ARGV  1 '1' to repair what is broken
-- REPLY {{code, member, evidence, ...}, 1 when the ready list, 1 when the running tasks are too many to be counted here}
-- A member is a limit key, a counter, or the last part of a key's name.
local MOST = 2000
local repairing = ARGV[1] == '1'
local MAY_EXPIRE = {wake = true, ['await'] = true, arrivals = true, errors = true}

for i = 1, #KEYS do
  member_now = string.match(KEYS[i], '}:(.*)$')
  if not MAY_EXPIRE[member_now] and redis.call('PTTL', KEYS[i]) >= 0 then
    fault('key-expires', redis.call('PTTL', KEYS[i]))
    if repairing then redis.call('PERSIST', KEYS[i]) end
  end
end

local counters = redis.call('HGETALL', stat)
for i = 1, #counters, 2 do
  member_now = counters[i]
  if not string.match(counters[i + 1], '^%-?%d+$') then
    fault('counter-broken', string.sub(counters[i + 1], 1, 40))
    if repairing then redis.call('HDEL', stat, counters[i]) end
  end
end

member_now = 'turn'
if redis.call('EXISTS', fair) == 0 and (redis.call('EXISTS', turns) == 1 or has(control, 'turn')) then
  fault('turns-left')
  if repairing then end_turns() end
end

local long_line = redis.call('LLEN', ready) > MOST
if not long_line then
  member_now = 'removed'
  local gone = 0
  for _, id in ipairs(redis.call('LRANGE', ready, 0, -1)) do
    if not lives(id) then gone = gone + 1 end
  end
  local counted = removed_count()
  if counted ~= gone then
    fault('removed-count', counted .. ' counted, ' .. gone .. ' there')
    if repairing then redis.call('HSET', stat, 'removed', gone) end
  end
end

local many_running = redis.call('ZCARD', lease) > MOST
if not many_running and redis.call('EXISTS', slots, tag) > 0 then
  local held = {}
  for _, id in ipairs(redis.call('ZRANGE', lease, 0, -1)) do
    local t = lives(id) and tag_of(id)
    if t and t.l then held[t.l] = (held[t.l] or 0) + 1 end
  end
  local counted = redis.call('HGETALL', slots)
  local differing, seen = {}, {}
  for i = 1, #counted, 2 do
    seen[counted[i]] = true
    if tonumber(counted[i + 1]) ~= (held[counted[i]] or 0) then differing[counted[i]] = counted[i + 1] end
  end
  for key in pairs(held) do
    if not seen[key] then differing[key] = '0' end
  end
  for key, count_text in pairs(differing) do
    member_now = key
    fault('slots-count', count_text .. ' counted, ' .. (held[key] or 0) .. ' run')
    if repairing then
      if held[key] then redis.call('HSET', slots, key, held[key]) else redis.call('HDEL', slots, key) end
      if is_parked(key) then
        redis.call('ZADD', retry_at, now, key)
        call_a_worker()
      end
    end
  end
end
return {faults, long_line and 1 or 0, many_running and 1 or 0}

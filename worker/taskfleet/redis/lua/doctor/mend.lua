-- needs: keys queue/clock queue/counters queue/unpacking queue/records queue/ready queue/unique_keys queue/inputs
-- needs: doctor/faults queue/wake queue/signals
-- Repair one broken invariant, if it is still broken.
-- KEYS  the queue's (redis/keys.py); schedules; ticks; ticked
-- ARGV  1 part  2 member  3 code  4 messagepack list of positions, or a text: see `mends`
-- REPLY 1 repaired, 0 not broken any more, -1 nothing can be done without a loss
-- No task is dropped: where two structures disagree, a task is rather delivered once more.
local part, member, code = ARGV[1], ARGV[2], ARGV[3]
local AGAIN_LEASE_MS = 30000

local function in_line(id) return redis.call('LPOS', ready, id) end

-- A task that is in no structure becomes ready, at the tail, unless another has its unique key.
local function deliver(id)
  local t = tag_of(id)
  if #places_of(id, t) > 0 or in_line(id) then return 0 end
  if t and t.p then
    t.p = nil
    redis.call('HSET', tag, id, cmsgpack.pack(t))
  end
  redis.call('HDEL', owner, id)
  come_due(id, t, history_of(id))
  call_a_worker()
  return 1
end

local function leave(id, place, t)
  if place == 'blocked' then
    local _, total = parsed_gather(redis.call('HGET', gather, id) or '')
    drop_gathered(id, total or 0)
  elseif place == 'parked' then
    redis.call('ZREM', parked, parked_as(id, t))
    t.p = nil
    redis.call('HSET', tag, id, cmsgpack.pack(t))
  elseif place == 'fair' then
    redis.call('ZREM', fair, id)
    if redis.call('EXISTS', fair) == 0 then end_turns() end
  elseif place == 'delayed' then
    redis.call('ZREM', delayed, id)
  else
    redis.call('ZREM', lease, id)
  end
end

local function removes_from(key)
  return function(id)
    redis.call('ZREM', key, id)
    if key == fair and redis.call('EXISTS', fair) == 0 then end_turns() end
    return 1
  end
end

local function deletes_from(key)
  return function(field)
    redis.call('HDEL', key, field)
    return 1
  end
end

local mends = {
  ['task-lost'] = deliver,
  ['lease-without-task'] = removes_from(lease), ['delayed-without-task'] = removes_from(delayed),
  ['turn-without-task'] = removes_from(fair), ['parked-without-task'] = removes_from(parked),
  ['letter-missing'] = removes_from(dead), ['tick-without-schedule'] = removes_from(ticks),
  ['token-without-task'] = deletes_from(owner), ['token-left'] = deletes_from(owner), ['meta-left'] = deletes_from(meta),
  ['history-broken'] = deletes_from(meta), ['tag-left'] = deletes_from(tag),
  ['tag-broken'] = deletes_from(tag), ['progress-left'] = deletes_from(progress),
  ['errors-left'] = deletes_from(errors), ['input-left'] = deletes_from(input), ['cancel-left'] = deletes_from(cancel),
  ['gather-left'] = deletes_from(gather), ['edges-left'] = deletes_from(edges), ['ticked-left'] = deletes_from(ticked),
  ['follower-dead'] = deletes_from(unique),
}

-- The place that `status` tells stays. A record in `gather` outlasts all but a lease.
mends['task-twice'] = function(id)
  local t = tag_of(id)
  local places = places_of(id, t)
  local kept = places[1]
  if kept == 'blocked' and not has(gather, id) and #places > 1 then kept = places[2] end
  local listed = in_line(id)
  if #places + (listed and 1 or 0) + (#places == 0 and has(gather, id) and 1 or 0) < 2 then return 0 end
  for _, place in ipairs(places) do
    if place ~= kept then leave(id, place, t) end
  end
  if not kept then redis.call('ZADD', blocked, '+inf', id) end
  if listed then redis.call('LREM', ready, 0, id) end
  return 1
end

mends['ready-twice'] = function(id)
  if #redis.call('LPOS', ready, id, 'COUNT', 2) < 2 then return 0 end
  redis.call('LREM', ready, -1, id)
  return 1
end

-- A worker that lives renews the lease; otherwise the task is taken over at its end.
mends['lease-missing'] = function(id)
  if in_line(id) then redis.call('HDEL', owner, id) else redis.call('ZADD', lease, now + AGAIN_LEASE_MS, id) end
  return 1
end

mends['lease-endless'] = function(id)
  redis.call('ZADD', lease, 'XX', now + AGAIN_LEASE_MS, id)
  return 1
end

-- Without a token no worker can record the outcome, so the task is ready again. Its delivery number grows, so that the
-- token of the lost delivery is never given again.
mends['token-missing'] = function(id)
  local t = tag_of(id)
  local attempt, delivery, crashes = history_of(id)
  redis.call('ZREM', lease, id)
  if t and t.l and count(slots, t.l, -1) <= 0 then redis.call('HDEL', slots, t.l) end
  if #places_of(id, t) == 0 and not in_line(id) then come_due(id, t, attempt, delivery + 1, crashes) end
  call_a_worker()
  return 1
end

mends['delayed-never'] = function(id)
  redis.call('ZADD', delayed, 'XX', now, id)
  call_a_worker()
  return 1
end

mends['parked-unknown'] = function(entry)
  local id = string.match(entry, '^.-%z%d+%z(.*)$')
  redis.call('ZREM', parked, entry)
  deliver(id)
  return 1
end

mends['parked-forever'] = function(entry)
  redis.call('ZADD', retry_at, now, string.match(entry, '^(.-)%z'))
  call_a_worker()
  return 1
end

mends['blocked-without-task'] = function(id)
  local _, total = parsed_gather(redis.call('HGET', gather, id) or '')
  drop_gathered(id, total or 0)
  return 1
end

mends['blocked-unlisted'] = function(id)
  if in_line(id) then redis.call('LREM', ready, 0, id) end
  redis.call('ZADD', blocked, '+inf', id)
  return 1
end

mends['gather-missing'] = function(id)
  redis.call('ZREM', blocked, id)
  redis.call('HDEL', gather, id)
  deliver(id)
  return 1
end

mends['unique-dead'] = function(key)
  redis.call('HDEL', unique, key)
  promote(key)
  return 1
end

mends['unique-lost'] = function(id)
  local t = tag_of(id)
  if not holder_of(t.u) then redis.call('HSET', unique, t.u, id) end
  return 1
end

mends['task-and-letter'] = function(id)
  redis.call('HDEL', letter, id)
  redis.call('ZREM', dead, id)
  return 1
end

mends['letter-unlisted'] = function(id)
  local parts = unpacked(redis.call('HGET', letter, id)) or {}
  redis.call('ZADD', dead, number_or_nil(parts[4]) or now, id)
  return 1
end

mends['await-left'] = function(id)
  redis.call('SREM', await, id)
  return 1
end

-- The number of arrived results and the number in the record disagree. When all are there, the last one arrives again.
mends['gather-count'] = function(id)
  local pending, total, carried, delay = parsed_gather(redis.call('HGET', gather, id) or '')
  if not pending or not redis.call('ZSCORE', blocked, id) then return 0 end
  local missing = 0
  for position = 0, total - 1 do
    if not has(gather, id .. ':' .. position) then missing = missing + 1 end
  end
  if missing == pending or total == 0 then return 0 end
  redis.call('HSET', gather, id, string.format('%d:%d:%d:%d', math.max(1, missing), total, carried, delay))
  if missing == 0 then
    local last = id .. ':' .. total - 1
    local value = redis.call('HGET', gather, last)
    redis.call('HDEL', gather, last)
    resolve(id, total - 1, value)
  end
  return 1
end

-- No task is left that would tell these positions (ARGV 4). Those that pass no result on are taken as told.
mends['waits-for-nothing'] = function(id)
  local _, _, carried = parsed_gather(redis.call('HGET', gather, id) or '')
  if not carried or redis.call('ZSCORE', blocked, id) ~= 'inf' then return 0 end
  local positions = cmsgpack.unpack(ARGV[4])
  for _, position in ipairs(positions) do
    if position < carried and not has(gather, id .. ':' .. position) then return -1 end
  end
  for _, position in ipairs(positions) do resolve(id, position, '') end
  return 1
end

-- ARGV 4: the stamp of the list when its ids without a task were counted, and their number.
mends['removed-count'] = function()
  local stamp, gone = unpack(cmsgpack.unpack(ARGV[4]), 1, 2)
  if stamp ~= stamp_of_line() then return 0 end
  redis.call('HSET', stat, 'removed', gone)
  return 1
end

-- Codes that `checks` does not tell: their mends look for themselves.
local LOOKS_ITSELF = {
  ['task-lost'] = true, ['ready-twice'] = true, ['task-twice'] = true, ['gather-count'] = true, ['waits-for-nothing'] = true,
}

if not mends[code] then return -1 end
local is_broken = LOOKS_ITSELF[code] and lives(member) or code == 'removed-count'
if not is_broken and not LOOKS_ITSELF[code] and KEY_OF[part] then
  check(part, member)
  for i = 1, #faults, 3 do is_broken = is_broken or faults[i] == code end
end
if not is_broken then return 0 end
local done = mends[code](member)
write_counts()
return done

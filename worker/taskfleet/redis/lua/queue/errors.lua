-- needs: keys queue/clock queue/unpacking
-- The errors of a task's attempts: a messagepack list of (attempt, time, time of the next attempt or 0, error record,
-- owner or ''), the oldest first. Only a task of which an attempt has failed has one. It ends with the task, or stays in
-- its dead letter.

-- Keep the error of an attempt of a task that runs again, behind those in `packed`. One function, since every step makes
-- it and hardly any calls it.
local function note_error(id, packed, attempt, at, next_at, record, by)
  local MOST_ERRORS, MOST_ERROR_BYTES = 10, 8192  -- of one task; older ones are dropped
  local MOST_FAILING = 20000  -- tasks of one partition that have errors: a failure of everything must not fill Redis
  local KEPT = 2592000000  -- ms after the next attempt: 30 days
  local failing = not packed and redis.pcall('HLEN', errors)  -- rights of an earlier version do not include it
  if type(failing) == 'number' and failing >= MOST_FAILING then return end
  local list = packed and unpacked(packed) or {}
  list[#list + 1] = {attempt, at, next_at, record, by}
  local first, bytes, kept = #list, 0, {}
  for i = #list, math.max(1, #list - MOST_ERRORS + 1), -1 do
    local _, _, _, text = unpack(type(list[i]) == 'table' and list[i] or {}, 1, 4)
    bytes = bytes + #(text_or_nil(text) or '')
    if bytes > MOST_ERROR_BYTES and i < #list then break end
    first = i
  end
  for i = first, #list do kept[#kept + 1] = list[i] end
  redis.call('HSET', errors, id, cmsgpack.pack(kept))
  -- A worker of an earlier version ends a task without them: a few are looked at, at a place that changes, and the rest
  -- goes when no attempt has failed for long.
  local some = redis.call('HSCAN', errors, now % 65536, 'COUNT', 2)[2]
  for i = 1, #some, 2 do
    if redis.call('HEXISTS', task, some[i]) == 0 then redis.call('HDEL', errors, some[i]) end
  end
  local keep, left = KEPT + math.max(next_at - now, 0), redis.pcall('PTTL', errors)
  if type(left) == 'number' and left < keep then redis.call('PEXPIRE', errors, string.format('%.0f', keep)) end
end

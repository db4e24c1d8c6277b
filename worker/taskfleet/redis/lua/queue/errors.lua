-- needs: keys queue/clock queue/unpacking
-- The errors of a task's attempts: a messagepack list of (attempt, time, time of the next attempt or 0, error record,
-- owner or ''), the oldest first. Only a task of which an attempt has failed has one. It ends with the task, or stays in
-- its dead letter.

-- Keep the errors of attempts of tasks that run again: of each (id, its earlier errors, packed, or false, and the five
-- parts of the new one). One function, since every step makes it and hardly any calls it.
local function note_errors(failures)
  if #failures == 0 then return end
  local MOST_ERRORS, MOST_ERROR_BYTES = 10, 8192  -- of one task; older ones are dropped
  local MOST_FAILING = 20000  -- tasks of one partition that have errors: a failure of everything must not fill Redis
  local KEPT = 2592000000  -- ms after the next attempt: 30 days
  local failing = redis.pcall('HLEN', errors)
  if type(failing) ~= 'number' then failing = 0 end  -- rights of an earlier version do not include it
  local written, last_next_at = {}, now
  for _, failure in ipairs(failures) do
    local id, packed, attempt, at, next_at, record, by = unpack(failure, 1, 7)
    if packed or failing < MOST_FAILING then
      if not packed then failing = failing + 1 end
      local list = packed and unpacked(packed) or {}
      list[#list + 1] = {attempt, at, next_at, record, by}
      local first, bytes = #list, #(text_or_nil(record) or '')
      while first > 1 and #list - first + 1 < MOST_ERRORS do
        local before = list[first - 1]
        bytes = bytes + #(type(before) == 'table' and text_or_nil(before[4]) or '')
        if bytes > MOST_ERROR_BYTES then break end
        first = first - 1
      end
      written[#written + 1] = id
      written[#written + 1] = cmsgpack.pack(packed and {unpack(list, first)} or list)
      last_next_at = math.max(last_next_at, next_at)
    end
  end
  if #written == 0 then return end
  redis.call('HSET', errors, unpack(written))
  -- A worker of an earlier version ends a task without them: some are looked at, at a place that changes, and the rest
  -- goes when no attempt has failed for long.
  local some = redis.call('HSCAN', errors, now % 65536, 'COUNT', math.min(#written, 20))[2]
  for i = 1, #some, 2 do
    if redis.call('HEXISTS', task, some[i]) == 0 then redis.call('HDEL', errors, some[i]) end
  end
  local keep, left = KEPT + last_next_at - now, redis.pcall('PTTL', errors)
  if type(left) == 'number' and left < keep then redis.call('PEXPIRE', errors, string.format('%.0f', keep)) end
end

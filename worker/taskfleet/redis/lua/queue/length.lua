-- needs: keys
-- The number of waiting tasks: ready, waiting for their turn, delayed, parked and blocked.
local function waiting_tasks()
  local n = redis.call('LLEN', ready) - (tonumber(redis.call('HGET', stat, 'removed')) or 0)
  for _, key in ipairs({fair, delayed, parked, blocked}) do n = n + redis.call('ZCARD', key) end
  return n
end

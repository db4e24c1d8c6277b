-- needs: keys

-- Whether Redis knows nothing of a task, whose token is given: it has lost its data, or the task ended elsewhere. No
-- other worker has it or will get it.
local function is_unknown(id, token)
  return not token and redis.call('HEXISTS', task, id) == 0 and redis.call('HEXISTS', letter, id) == 0
end

-- needs: keys queue/inputs queue/signals step
-- Delete the tasks that have ended, signal the tasks that wait for them, and publish the ends that clients wait for.
if n_ended > 0 then
  -- A task that succeeded in spite of its cancellation: the mark of the cancellation is removed.
  local cancelling = redis.call('EXISTS', cancel) == 1
  local noted = redis.call('EXISTS', meta) == 1
  local awaited = redis.call('EXISTS', await) == 1
  local passed_on = tagged and redis.call('EXISTS', input) == 1
  local reported = redis.call('EXISTS', progress, errors) > 0
  for first = 1, n_ended, 1000 do
    local last = math.min(first + 999, n_ended)
    redis.call('HDEL', task, unpack(ended, first, last))
    if tagged then redis.call('HDEL', tag, unpack(ended, first, last)) end
    if noted then redis.call('HDEL', meta, unpack(ended, first, last)) end
    if cancelling then redis.call('HDEL', cancel, unpack(ended, first, last)) end
    if reported then
      redis.call('HDEL', progress, unpack(ended, first, last))
      redis.call('HDEL', errors, unpack(ended, first, last))
    end
  end
  for i = 1, n_ended do
    local id = ended[i]
    if tagged then
      local how = ended_how[id]
      local state, value, t = how[1], how[2], how[3]
      if passed_on then drop_input(id, state) end
      if t then hand_over(id, t, state, value) end
    end
    if awaited and redis.call('SREM', await, id) == 1 then
      if told[id] then redis.call('PUBLISH', ARGV[18], id .. '\0' .. told[id]) end
      redis.call('PUBLISH', ARGV[8], id)
    end
  end
end

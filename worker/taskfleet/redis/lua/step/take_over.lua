-- needs: keys queue/clock queue/counters queue/errors queue/inputs queue/records queue/ready step step/bury step/slots step/cancelling
-- Take over the tasks whose lease has expired without an outcome: their worker is gone. The crash is counted, and the
-- task goes to the head of its queue, or becomes a dead letter after max_deliveries crashes.
local lost = {}
if first_end and first_end <= now then
  lease_changed = true
  lost = redis.call('ZRANGEBYSCORE', lease, '-inf', now, 'LIMIT', 0, tonumber(ARGV[5]))
end
-- Each is read. Where payloads are large, the rest is left to the next call.
local lost_bytes = 0
for i = 1, large and #lost or 0 do
  lost_bytes = lost_bytes + redis.call('HSTRLEN', task, lost[i])
  if i > 1 and lost_bytes > MOST_BYTES then
    lost = {unpack(lost, 1, i - 1)}
    break
  end
end
for i = #lost, 1, -1 do
  local id = lost[i]
  local token = redis.call('HGET', owner, id)
  redis.call('ZREM', lease, id)
  redis.call('HDEL', owner, id)
  if redis.call('HEXISTS', task, id) == 1 then
    local attempt, delivery, crashes = history_of(id)
    local t = tag_if_any(id)
    free_slot(t)
    delivery = tonumber(token and string.match(token, ':(%d+)$')) or delivery
    crashes = crashes + 1
    local dies = crashes >= tonumber(ARGV[4])
    if not memory_full then
      local by = token and string.match(token, '^(.*):%d+$') or ''
      local lost_record = cmsgpack.pack({'worker_lost', 'its worker was lost while it ran', ''})
      note_errors({{id, redis.call('HGET', errors, id), attempt, now, dies and 0 or now, lost_record, by}})
    end
    local n = #taken_over
    taken_over[n + 1], taken_over[n + 2], taken_over[n + 3] = id, attempt, crashes
    taken_over[n + 4] = dies and 1 or 0
    taken_over[n + 5] = string.sub(unwrapped(redis.call('HGET', task, id)), 1, 300)
    if redis.call('HDEL', cancel, id) == 1 then
      taken_over[n + 4] = 0
      -- A script may only touch the keys that it is given, and the result key of this task is not among them. The
      -- client that relays the signal ends the task.
      block(id, 1, 0, 0, SIGNALLED_AGAIN_MS)
      signal_cancelled(id, 'cancelled while it ran')
    elseif dies then
      bury(id, t, 'dead', attempt, delivery,
        cmsgpack.pack({'max_deliveries', 'its worker died ' .. crashes .. ' times while it ran', ''}))
      add('finished', 1)
      add('unrun', 1)
    else
      write_history(id, attempt, delivery, crashes, now)
      make_ready(id, t, true)
      add('taken_over', 1)
      add('deferred', -1)
    end
  end
end

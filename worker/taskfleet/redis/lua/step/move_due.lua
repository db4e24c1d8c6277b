-- needs: keys queue/clock queue/counters queue/records queue/ready queue/unique_keys step
-- Make the delayed tasks ready that are due.
if first_due and first_due <= now or delayed_changed then
  delayed_changed = true
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, math.min(math.max(wanted, 100), 500))
  if #due > 0 then redis.call('ZREM', delayed, unpack(due)) end
  if tagged then
    for i = 1, #due do
      local attempt, delivery, crashes = history_of(due[i])
      local t = tag_of(due[i])
      if not is_counted(t) then add('deferred', -1) end
      come_due(due[i], t, attempt, delivery, crashes)
    end
  elseif #due > 0 then
    add('deferred', -#due)
    -- Without turns and keys, all go to the tail together.
    local histories, written = redis.call('HMGET', meta, unpack(due)), {}
    for i = 1, #due do
      local attempt, delivery, crashes = parsed_history(histories[i])
      written[2 * i - 1], written[2 * i] = due[i], history_text(attempt, delivery, crashes, now)
    end
    redis.call('HSET', meta, unpack(written))
    redis.call('RPUSH', ready, unpack(due))
  end
end

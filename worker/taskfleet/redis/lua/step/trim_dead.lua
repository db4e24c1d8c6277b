-- needs: keys queue/clock queue/counters queue/inputs step
-- Delete dead letters beyond the number or age that the queue keeps: a bounded number in each call that adds one.
if counts['failed'] then
  local old = redis.call('ZRANGEBYSCORE', dead, '-inf', now - tonumber(ARGV[7]), 'LIMIT', 0, 100)
  local extra = redis.call('ZCARD', dead) - #old - tonumber(ARGV[6])
  if extra > 0 then
    local first = redis.call('ZRANGE', dead, #old, #old + math.min(extra, 100) - 1)
    for i = 1, #first do old[#old + 1] = first[i] end
  end
  if large then
    freed_bytes = 0
    for i = 1, #old do
      if not may_free(letter, old[i]) then
        old = {unpack(old, 1, i - 1)}
        break
      end
    end
  end
  if #old > 0 then
    drop_inputs_of_letters(old)
    redis.call('ZREM', dead, unpack(old))
    redis.call('HDEL', letter, unpack(old))
  end
end

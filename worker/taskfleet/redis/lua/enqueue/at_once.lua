-- needs: keys
-- One task that is ready at once, in fewest commands: ARGV 8 id  9 envelope  10 the value of the sender's last call that
-- stands for this one. Any other call continues in enqueue.lua, as does one that was sent before.
local last_call = KEYS[last_key + 1]
if ARGV[5] == '' then
  local before = redis.call('SET', last_call, ARGV[10], 'PX', 120000, 'GET')
  -- A value is {number, reply}: the number of the last call is behind the two bytes of its list and its text.
  local number = before and tonumber(string.match(before, '^%d+', 3))
  if (not before or number and number < tonumber(ARGV[6])) and redis.call('EXISTS', fair) == 0 then
    local time = redis.call('TIME')
    local stamp = struct.pack('>d', time[1] * 1000 + math.floor(time[2] / 1000))
    -- A key of another program, or a user without a right, must not leave the mark of a call that has added its task.
    local fresh = redis.pcall('HSETNX', task, ARGV[8], stamp .. ARGV[9]) == 1
    local length = fresh and redis.pcall('RPUSH', ready, ARGV[8])
    if type(length) == 'number' then
      if type(redis.pcall('HINCRBY', stat, 'enqueued', 1)) ~= 'number' then redis.call('HSET', stat, 'enqueued', 1) end
      if redis.call('LLEN', wake) == 0 then
        redis.call('RPUSH', wake, 1)
        redis.call('PEXPIRE', wake, 60000)
      end
      if length == 1 then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
      return {1, {}, 0}
    end
    if fresh then redis.call('HDEL', task, ARGV[8]) end
  end
  if before then redis.call('SET', last_call, before, 'PX', 120000) else redis.call('DEL', last_call) end
end

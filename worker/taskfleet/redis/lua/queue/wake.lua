-- needs: keys
-- Idle workers block on the list `wake`. One element wakes one worker, which wakes the next when it is full.
local function call_a_worker()
  if redis.call('LLEN', wake) == 0 then
    redis.call('RPUSH', wake, 1)
    redis.call('PEXPIRE', wake, 60000)
  end
end

-- needs: keys queue/signals step
-- A signal from the task itself, which ends it as cancelled when it is relayed.
local SIGNALLED_AGAIN_MS = 60000  -- after this time a signal that was lost is sent again

local function signal_cancelled(id, why)
  redis.call('RPUSH', outbox, cmsgpack.pack({here, id, 0, id, 'cancelled', why}))
  signalled = true
end

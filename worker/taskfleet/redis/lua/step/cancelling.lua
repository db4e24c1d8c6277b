-- needs: keys queue/signals step
-- A signal that comes from the task itself, and so ends it as cancelled when it is relayed.
local SIGNALLED_AGAIN_MS = 60000  -- a signal that was lost on its way is sent again after so long

local function signal_cancelled(id, why)
  redis.call('RPUSH', outbox, cmsgpack.pack({here, id, 0, id, 'cancelled', why}))
  signalled = true
end

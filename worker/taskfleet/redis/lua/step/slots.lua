-- needs: keys queue/counters queue/ready
-- The slots of limit keys, which tasks hold for as long as their lease lasts.
local freed, freed_keys = {}, {}  -- limit key → slots that became free in this call; the keys in order

-- Free the slot of a limit key when its task's lease is gone.
local function free_slot(t)
  if not (t and t.l) then return end
  if count(slots, t.l, -1) <= 0 then redis.call('HDEL', slots, t.l) end
  if not freed[t.l] then freed_keys[#freed_keys + 1] = t.l end
  freed[t.l] = (freed[t.l] or 0) + 1
end

-- Make as many parked tasks of a key ready as slots became free, together, so that they keep their order.
local function let_in()
  for _, key in ipairs(freed_keys) do unpark(key, freed[key]) end
end

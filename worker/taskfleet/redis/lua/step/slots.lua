-- needs: keys queue/ready
-- The slots of limit keys, which tasks hold for as long as their lease lasts. A call reads the number of a key once,
-- counts in `taken`, and writes what has changed at its end.
local freed, freed_keys = {}, {}  -- limit key → slots that became free in this call; the keys in order
local stored, taken = {}, {}  -- limit key → slots that tasks hold: before this call, and now

-- Free the slot of a limit key when its task's lease is gone. It counts from `let_in` on.
local function free_slot(t)
  if not (t and t.l) then return end
  if not freed[t.l] then freed_keys[#freed_keys + 1] = t.l end
  freed[t.l] = (freed[t.l] or 0) + 1
end

-- Read the slots of those of the keys that this call does not know yet. A value that is no number of slots, because
-- another program has written it, counts as 0, and is written again.
local function learn_slots(of_keys)
  local unknown = {}
  for _, key in ipairs(of_keys) do
    if not taken[key] then
      unknown[#unknown + 1] = key
      taken[key] = 0
    end
  end
  if #unknown == 0 then return end
  for i, value in ipairs(redis.call('HMGET', slots, unpack(unknown))) do
    local n = tonumber(value or 0)
    if n and (n ~= math.floor(n) or math.abs(n) > 1e15) then n = nil end
    stored[unknown[i]], taken[unknown[i]] = n, n or 0
  end
end

-- Make as many parked tasks of a key ready as slots became free, together, so that they keep their order.
local function let_in()
  learn_slots(freed_keys)
  for _, key in ipairs(freed_keys) do taken[key] = math.max(0, taken[key] - freed[key]) end
  if #freed_keys == 0 or redis.call('EXISTS', parked) == 0 then return end
  for _, key in ipairs(freed_keys) do unpark(key, freed[key]) end
end

local function write_slots()
  local written, gone = {}, {}
  for key, n in pairs(taken) do
    if n > 0 and n ~= stored[key] then
      written[#written + 1] = key
      written[#written + 1] = n
    elseif n ~= stored[key] then
      gone[#gone + 1] = key
    end
  end
  if #written > 0 then redis.call('HSET', slots, unpack(written)) end
  if #gone > 0 then redis.call('HDEL', slots, unpack(gone)) end
end

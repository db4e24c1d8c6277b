-- needs: keys queue/records queue/unique_keys queue/signals queue/ending queue/adding enqueue
-- Add tasks that have unique, limit or fair keys, or take part in a workflow; or any tasks to a queue that takes turns.

-- The number of tasks that need no room: a task of their key keeps them out, or they replace it.
local function spared()
  local n, keys = 0, {}
  for i = 1, #items do
    local more = items[i][MORE]
    if more and more.u and not present[i] then
      if keys[more.u] or in_the_way(holder_of(more.u), more.u, more.m) then n = n + 1 end
      keys[more.u] = true
    end
  end
  return n
end

local holders = {}

-- The effect of the unique key on an item: whether it is kept out, its due time, and whether it follows the holder. A
-- task that it replaces is ended.
local function check_key(item, position, more, replaced_key, due)
  local holder = holder_of(more.u)
  local older = in_the_way(holder, more.u, more.m)
  if not older then return false, due, holder end
  if more.m == 'k' or more.x ~= older then
    holders[#holders + 1] = position
    holders[#holders + 1] = older
    return true
  end
  local t = tag_of(older)
  if more.m == 'r' then due = due_again(older, t) or due end
  end_waiting(older, t, replaced_key, more.r, more.t, ARGV[7], 'replaced by task ' .. item[ID])
  return false, due, older ~= holder
end

local refusal = tonumber(ARGV[3]) > 0 and no_room(plain and 0 or spared())
if refusal then return refusal end
local next_replaced = last_key + 2
local ready_now, sooner = false, false
for i = 1, #items do
  local item, id, more = items[i], ids[i], items[i][MORE] or {}
  local due, replaced_key, follows = due_of(item), nil, false
  if more.x then replaced_key = KEYS[next_replaced]; next_replaced = next_replaced + 1 end
  local refused = present[i] or seen[id]
  if not refused and more.u then refused, due, follows = check_key(item, i - 1, more, replaced_key, due) end
  if not refused then
    seen[id] = true
    added = added + 1
    if put(id, item[ENVELOPE], more, due, follows) then
      ready_now = true
    elseif not more.w then
      sooner = true
    end
  end
end
return finish(ready_now, sooner, holders, plain and 0 or signals_left())

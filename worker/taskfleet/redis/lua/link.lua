-- needs: keys queue/unpacking queue/records queue/inputs
-- Let tasks of any queue wait for a task of this queue.
-- A task with many waiting tasks has more of its edges in `edges`: fields id:1, id:2, … of at most EDGES each.
-- KEYS  the queue's (redis/keys.py); the result key of the task to wait for
-- ARGV  1 id to wait for  2 messagepack list of edges to the tasks that wait (queue/records.lua)
-- REPLY {state, record}: linked, unknown, dead (with the dead letter), or ended (with the result record)
local EDGES = 500
local id = ARGV[1]
if redis.call('HEXISTS', task, id) == 1 then
  local t = tag_of(id) or {}
  t.n = t.n or {}
  local last, field, changed = t.n, nil, false
  if t.e then
    field = id .. ':' .. t.e
    last = unpacked(redis.call('HGET', edges, field) or '') or {}
  end
  local function write()
    if field then redis.call('HSET', edges, field, cmsgpack.pack(last)) end
  end
  for _, edge in ipairs(cmsgpack.unpack(ARGV[2])) do
    local known, _, waiting, position = false, unpack(edge, 1, 3)
    for i = 1, #last do
      local _, other, other_position = unpack(type(last[i]) == 'table' and last[i] or {}, 1, 3)
      known = known or other == waiting and other_position == position
    end
    if not known then
      if #last >= EDGES then
        write()
        t.e = (t.e or 0) + 1
        field, last = id .. ':' .. t.e, {}
        wrap(id)
      end
      last[#last + 1] = edge
      changed = true
    end
  end
  if changed then
    write()
    redis.call('HSET', tag, id, cmsgpack.pack(t))
  end
  return {'linked', ''}
end
local found = redis.call('HGET', letter, id)
if found then return {'dead', found} end
found = redis.call('GET', KEYS[last_key + 1])
if found then return {'ended', found} end
return {'unknown', ''}

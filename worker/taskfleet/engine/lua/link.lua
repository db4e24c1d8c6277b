-- with: transitions
-- Let a task of any queue wait for one of this queue.
-- KEYS  the queue's (engine/keys.py); the result key of the task to wait for
-- ARGV  1 id to wait for  2 queue of the one that waits  3 its id  4 position  5 1 to pass the result on
-- REPLY {state, record}: linked, unknown, dead (with the dead letter), or ended (with the result record)
local id = ARGV[1]
if redis.call('HEXISTS', task, id) == 1 then
  local t = tag_of(id) or {}
  t.n = t.n or {}
  for _, edge in ipairs(t.n) do
    if edge[2] == ARGV[3] and edge[3] == tonumber(ARGV[4]) then return {'linked', ''} end
  end
  t.n[#t.n + 1] = {ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])}
  redis.call('HSET', tag, id, cmsgpack.pack(t))
  return {'linked', ''}
end
local found = redis.call('HGET', letter, id)
if found then return {'dead', found} end
found = redis.call('GET', KEYS[last_key + 1])
if found then return {'ended', found} end
return {'unknown', ''}

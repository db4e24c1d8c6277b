-- needs: keys
-- The next limit keys that tasks wait for, each with their number. It changes nothing, and costs the same for each key,
-- however many tasks wait for it.
-- KEYS  the queue's (redis/keys.py)
-- ARGV  1 the last key of the page before, '' at the start  2 number of keys
-- REPLY {key, waiting, running, ...}, in the order of the keys
-- In `parked` the tasks of a key lie together, so that the next key is one look behind them.
local reply = {}
local from = ARGV[1] == '' and '-' or '(' .. ARGV[1] .. '\0\255'
for _ = 1, tonumber(ARGV[2]) do
  local member = redis.call('ZRANGEBYLEX', parked, from, '+', 'LIMIT', 0, 1)[1]
  if not member then break end
  local key = string.match(member, '^(.*)%z%d+%z') or member  -- a member without a NUL was written by another program
  local waiting = redis.call('ZLEXCOUNT', parked, '[' .. key, '[' .. key .. '\0\255')
  reply[#reply + 1] = key
  reply[#reply + 1] = waiting
  reply[#reply + 1] = redis.call('HGET', slots, key) or '0'
  from = '(' .. key .. '\0\255'
end
return reply

-- needs: keys
-- The next ids of one structure, after the last that was listed. It changes nothing.
-- KEYS  the queue's (redis/keys.py)
-- ARGV  1 structure  2 number of ids  3 position of the last one, '' at the start  4 the last one
-- REPLY {position, id, ...}
-- A sorted set is in the order of its scores, with equal scores in the order of its members. So a page begins behind the
-- last one even if that has left: members that stay where they are, are listed once. `ready` is a list whose head is
-- taken: the last one is looked for towards the head, and if it is gone, so are those before it.
local key = ({ready = ready, fair = fair, delayed = delayed, parked = parked, blocked = blocked, lease = lease, dead = dead})[ARGV[1]]
local most, begins, last = tonumber(ARGV[2]), ARGV[3] == '', ARGV[4]
local WINDOW, MOST_WINDOWS = 1000, 20

local function after_in_list()
  local upper = tonumber(ARGV[3])
  for _ = 1, MOST_WINDOWS do
    local lower = math.max(0, upper - WINDOW + 1)
    local ids = redis.call('LRANGE', key, lower, upper)
    for i = #ids, 1, -1 do
      if ids[i] == last then return lower + i end
    end
    if lower == 0 then return 0 end
    upper = lower - 1
  end
  return 0
end

-- Whether `a` comes behind `b` in a sorted set of equal scores: byte by byte, whatever the locale of the server is.
local function is_behind(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

-- The rank of the first member behind the last one: a binary search.
local function after_in_order()
  local score = tonumber(ARGV[3])
  local low, high = 0, redis.call('ZCARD', key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local one = redis.call('ZRANGE', key, middle, middle, 'WITHSCORES')
    local its_score = tonumber(one[2])
    if its_score > score or its_score == score and is_behind(one[1], last) then high = middle else low = middle + 1 end
  end
  return low
end

local reply = {}
if key == ready then
  local first = begins and 0 or after_in_list()
  for i, id in ipairs(redis.call('LRANGE', key, first, first + most - 1)) do
    reply[2 * i - 1], reply[2 * i] = tostring(first + i - 1), id
  end
else
  local first = begins and 0 or after_in_order()
  local some = redis.call('ZRANGE', key, first, first + most - 1, 'WITHSCORES')
  for i = 1, #some, 2 do
    reply[i], reply[i + 1] = some[i + 1], some[i]
  end
end
return reply

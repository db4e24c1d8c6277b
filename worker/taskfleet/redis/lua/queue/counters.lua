-- needs: keys
-- The counters of one queue. They are summed up during a call, and written once, at its end, by `write_counts`.
-- Two of them correct others, so that the usual task, which is ready at once and ends after one run, costs no counter
-- more. `deferred`: tasks that were accepted for later, less those that have become ready later or once more; what
-- became ready is `enqueued` - `deferred`. `unrun`: ends without a run; what ran is `finished` + `retried` - `unrun`.
local counts = {}

local function add(name, n) counts[name] = (counts[name] or 0) + n end

-- A field that holds no number, because another program has written it, restarts at 0.
local function count(key, field, n)
  local value = redis.pcall('HINCRBY', key, field, n)
  if type(value) == 'number' then return value end
  if not string.find(value.err, 'integer', 1, true) and not string.find(value.err, 'overflow', 1, true) then error(value) end
  redis.call('HSET', key, field, n)
  return n
end

local function write_counts()
  for name, n in pairs(counts) do count(stat, name, n) end
end

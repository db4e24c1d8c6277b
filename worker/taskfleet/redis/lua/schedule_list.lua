-- A page of the schedules of one queue, in no order. It only reads. A schedule that exists throughout the listing is in
-- one page, or in two.
-- KEYS  1 schedules  2 ticks  3 ticked
-- ARGV  1 cursor (0 for the first page)  2 approximate number
-- REPLY {cursor of the next page, 0 after the last, {name, spec, state or '', next tick in ms or '', …}}
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local found = {}
for i = 1, #page[2], 2 do
  local name = page[2][i]
  found[#found + 1] = name
  found[#found + 1] = page[2][i + 1]
  found[#found + 1] = redis.call('HGET', KEYS[3], name) or ''
  found[#found + 1] = redis.call('ZSCORE', KEYS[2], name) or ''
end
return {page[1], found}

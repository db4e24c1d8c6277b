-- needs: queue/clock
-- Write the figures of now into the rings of one key. In each ring a record belongs to one step of time: what is written
-- again within the step keeps the largest gauges and the last totals. Rings lie one behind the other in one string.
-- KEYS  1 the rings
-- ARGV  1 bytes of all rings  2 ms that they are kept from now on  3 gauges, 4 bytes each  4 totals, packed
--       5 rings: a messagepack list of {seconds of a step, number of records, number of gauges, 1 with totals,
--         seconds of a part of a step, or 0}
--       6 1 when rings are to be made where there are none
-- REPLY 1, also when there are no rings and none are to be made; 0 for a string of other bytes, which another program
--       has written
-- A record is its lap (3 bytes: how often the ring had gone round), the first gauges, the totals, and in a ring whose
-- steps have parts, in one byte, the part in which it was written last. By the lap a record of an earlier one, and a
-- string of zeros, is told from one of now. What a clock that has gone back had written into the steps to come is
-- dropped one step ahead, since its gauges would be taken for those of the step.
local whole = tonumber(ARGV[1])
local size = redis.call('STRLEN', KEYS[1])
if size == 0 then
  if ARGV[6] ~= '1' then return 1 end
  redis.call('SETRANGE', KEYS[1], whole - 1, '\0')  -- made at once, since a string that grows is given twice its bytes
elseif size ~= whole then
  return 0
end

local function larger(a, b, gauges)
  local found = {}
  for i = 1, gauges do
    local x, y = string.sub(a, 4 * i - 3, 4 * i), string.sub(b, 4 * i - 3, 4 * i)
    found[i] = struct.unpack('>I4', x) > struct.unpack('>I4', y) and x or y
  end
  return table.concat(found)
end

local function lap_of(step, records) return struct.pack('>I3', math.floor(step / records)) end

local first = 0
for _, ring in ipairs(cmsgpack.unpack(ARGV[5])) do
  local seconds, records, gauges, totals = ring[1], ring[2], ring[3], ring[4] == 1 and ARGV[4] or ''
  local step = math.floor(now / 1000 / seconds)
  local part = ring[5] > 0 and string.char(math.floor(now / 1000 % seconds / ring[5])) or ''
  local width = 3 + 4 * gauges + #totals + #part
  local at, behind = first + step % records * width, first + (step + 1) % records * width
  local lap = lap_of(step, records)
  local figures = string.sub(ARGV[3], 1, 4 * gauges)
  local before = redis.call('GETRANGE', KEYS[1], at, at + 2 + 4 * gauges)
  if string.sub(before, 1, 3) == lap then figures = larger(string.sub(before, 4), figures, gauges) end
  redis.call('SETRANGE', KEYS[1], at, lap .. figures .. totals .. part)
  if redis.call('GETRANGE', KEYS[1], behind, behind + 2) == lap_of(step + 1, records) then
    redis.call('SETRANGE', KEYS[1], behind, '\0\0\0')  -- the clock has gone back
  end
  first = first + records * width
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1

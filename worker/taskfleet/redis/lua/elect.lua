-- needs: queue/clock
-- Become the one that does some work for the whole fleet, or stay it, or give way.
-- KEYS  1 who does it now
-- ARGV  1 the name of the one that asks  2 ms for which it is the one, 0 to give way
-- REPLY {1 when it is the one, else 0; now_ms}
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0, now} end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return {1, now}

-- needs: queue/clock
-- Read a part of the rings of one key, with the time that their steps are counted by.
-- KEYS  1 the rings
-- ARGV  1 bytes of all rings  2 first byte  3 last byte
-- REPLY {now_ms, bytes}: '' without a key, nil for a string of other bytes, which another program has written
local size = redis.call('STRLEN', KEYS[1])
if size == 0 then return {now, ''} end
return {now, size == tonumber(ARGV[1]) and redis.call('GETRANGE', KEYS[1], ARGV[2], ARGV[3])}

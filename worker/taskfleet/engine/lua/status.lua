-- Where one task is, and how it ended; optionally say that somebody waits for its end.
-- KEYS  1-13 of the queue (engine/keys.py)  14 its result key
-- ARGV  1 id  2 '1' to have its end published on the done channel
-- REPLY {state, result or dead letter or ''}: state is running, ready, delayed, retrying, ended, dead or unknown
local id = ARGV[1]
local letter = redis.call('HGET', KEYS[8], id)
if letter then return {'dead', letter} end
local result = redis.call('GET', KEYS[14])
if result then return {'ended', result} end
if redis.call('HEXISTS', KEYS[2], id) == 0 then return {'unknown', ''} end
if ARGV[2] == '1' then
  redis.call('SADD', KEYS[13], id)
  redis.call('PEXPIRE', KEYS[13], 86400000)
end
if redis.call('HEXISTS', KEYS[5], id) == 1 then return {'running', ''} end
local note = redis.call('HGET', KEYS[3], id)
if redis.call('ZSCORE', KEYS[6], id) then
  if note and tonumber(string.match(note, '^(%d+):')) > 1 then return {'retrying', ''} end
  return {'delayed', ''}
end
return {'ready', ''}

-- needs: keys
-- The state of one task and its result; optionally note that a client waits for its end.
-- KEYS  the queue's (redis/keys.py); its result key
-- ARGV  1 id  2 '1' to have its end published on the done channel
-- REPLY {state, result or dead letter or ''}: state is running, ready, delayed, blocked, retrying, ended, dead, unknown
local id = ARGV[1]
local buried = redis.call('HGET', letter, id)
if buried then return {'dead', buried} end
local result = redis.call('GET', KEYS[last_key + 1])
if result then return {'ended', result} end
if redis.call('HEXISTS', task, id) == 0 then return {'unknown', ''} end
if ARGV[2] == '1' then
  redis.call('HDEL', owner, '')  -- after a write that needs no memory, a Redis that is out of memory permits the others
  redis.call('SADD', await, id)
  redis.call('PEXPIRE', await, 86400000)
end
if redis.call('HEXISTS', owner, id) == 1 then return {'running', ''} end
if redis.call('HEXISTS', gather, id) == 1 then return {'blocked', ''} end
local note = redis.call('HGET', meta, id)
if redis.call('ZSCORE', delayed, id) then
  if note and (tonumber(string.match(note, '^(%d+):')) or 1) > 1 then return {'retrying', ''} end
  return {'delayed', ''}
end
local packed = redis.call('HGET', tag, id)
local sound, t = pcall(cmsgpack.unpack, packed or '')
if sound and type(t) == 'table' and t.p then return {'delayed', ''} end
return {'ready', ''}

-- needs: keys queue/unpacking queue/inputs
-- Delete some dead letters, and hold them for a while in case somebody wants them back (restore_dead.lua). A letter is
-- not held when the bounds are reached, or when the results that were passed on to its task are in pages of their own.
-- The time to live is one by the clock of Redis: that of the caller may be another.
-- KEYS  the queue's (redis/keys.py), held letters of this job
-- ARGV  1 messagepack list of ids  2 how long they are held (ms)  3 letters that may be held  4 bytes of these
-- REPLY {looked at, deleted, held, bytes held, jobs that are left to drain.lua}
--       A call looks at fewer ids where letters are large; the caller calls again for the rest.
redis.call('HDEL', owner, '')  -- after a write that needs no memory, a Redis that is out of memory permits the others
local held_key, hold_ms = KEYS[last_key + 1], ARGV[2]
local room, room_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local ids = cmsgpack.unpack(ARGV[1])
local looked, deleted, held, held_bytes, bytes = 0, 0, 0, 0, 0
for i = 1, #ids do
  if bytes > MOST_BYTES then break end
  local id = ids[i]
  looked = i
  local size = redis.call('HSTRLEN', letter, id)
  bytes = bytes + size
  if held < room and size > 0 and held_bytes + size <= room_bytes then
    local packed = redis.call('HGET', letter, id)
    local fields = unpacked(packed)
    if fields and not paged(text_or_nil(fields[8])) and not redis.call('HGET', input, id) then
      local died = redis.call('ZSCORE', dead, id) or '0'
      redis.call('RPUSH', held_key, cmsgpack.pack({id, died, packed}))
      held, held_bytes = held + 1, held_bytes + size
    end
  end
  drop_inputs_of_letters({id})
  local listed = redis.call('ZREM', dead, id)
  local stored = redis.call('HDEL', letter, id)
  if listed + stored > 0 then deleted = deleted + 1 end
end
if held > 0 then redis.call('PEXPIRE', held_key, hold_ms) end
return {looked, deleted, held, held_bytes, redis.call('LLEN', jobs)}

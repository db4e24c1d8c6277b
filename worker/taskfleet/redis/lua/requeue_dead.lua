-- needs: keys queue/clock queue/counters queue/wake queue/unpacking queue/errors queue/records queue/ready queue/unique_keys queue/inputs
-- Requeue dead letters at the tail, with all their attempts before them. The errors of the earlier ones stay known. A letter stays when another task has its
-- unique key by now, when it reports a cancellation (a cancelled task never runs), or when another program has written
-- it.
-- KEYS  the queue's (redis/keys.py)
-- ARGV  1 activity channel  2 queue name  3 maximal number  4 messagepack list of ids (empty: the oldest)
--       5 number of the oldest that were examined before, and stay
-- REPLY {moved, left, {id that stays, the task that has its unique key or '', ...}, number of examined letters}
--       A call examines fewer than requested where letters are large; the caller calls again for the rest.
local ids = cmsgpack.unpack(ARGV[4])
if #ids == 0 then ids = redis.call('ZRANGE', dead, ARGV[5], ARGV[5] + ARGV[3] - 1) end
local nothing_ready = redis.call('EXISTS', ready, fair) == 0
local moved, stay, looked, bytes, failures = 0, {}, 0, 0, {}
for i = 1, math.min(#ids, tonumber(ARGV[3])) do
  local id = ids[i]
  local packed = bytes < MOST_BYTES and redis.call('HGET', letter, id)
  if bytes < MOST_BYTES then looked = i end
  if packed then
    bytes = bytes + #packed
    local state, attempt, delivery, died, envelope, why, keys, inputs, before = unpack(unpacked(packed) or {}, 1, 9)
    local whole = type(envelope) == 'string' and type(delivery) == 'number'
    local t = text_or_nil(keys) and sound_tag(keys) or nil
    local holder = t and t.u and holder_of(t.u)
    if holder or state == 'cancelled' or not whole then
      stay[#stay + 1] = id
      stay[#stay + 1] = holder or ''
    else
      redis.call('HDEL', letter, id)
      redis.call('ZREM', dead, id)
      redis.call('HSET', task, id, envelope)
      if t then redis.call('HSET', tag, id, keys) end
      if t and t.u then redis.call('HSET', unique, t.u, id) end
      local passed_on = text_or_nil(inputs) or ''
      if passed_on ~= '' then redis.call('HSET', input, id, passed_on) end
      if paged(passed_on) then wrap(id) end
      if text_or_nil(why) and number_or_nil(attempt) and number_or_nil(died) then
        failures[#failures + 1] = {id, text_or_nil(before) or false, attempt, died, now, why, ''}
      end
      -- The delivery number continues from its last value, so an outcome of an earlier delivery stays stale.
      make_ready_at_tail(id, t, 1, delivery, 0)
      moved = moved + 1
    end
  end
end
note_errors(failures)
if moved > 0 then add('enqueued', moved) end
write_counts()
if moved > 0 then
  call_a_worker()
  if nothing_ready then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
end
return {moved, redis.call('ZCARD', dead), stay, looked}

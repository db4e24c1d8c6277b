-- needs: keys queue/clock queue/counters queue/unknown
-- Renew the leases of one worker.
-- KEYS  the queue's (redis/keys.py)
-- ARGV  1 owner  2 lease_ms  3 busy milliseconds since the last call  4 messagepack list of (id, delivery)
-- REPLY {{ids that were taken from this owner}, {ids to cancel}, {ids of which Redis knows nothing}}
-- A lease is renewed only with its fencing token, so a worker that was away cannot take back a task that another has
-- claimed.
redis.call('HDEL', owner, '')  -- after a write that needs no memory, a Redis that is out of memory permits the others
local items = cmsgpack.unpack(ARGV[4])
local lost, cancelled, unknown, scores, ids = {}, {}, {}, {}, {}
for i = 1, #items do ids[i] = items[i][1] end
if #ids > 0 then
  local tokens = redis.call('HMGET', owner, unpack(ids))
  local marks
  if redis.call('EXISTS', cancel) == 1 then marks = redis.call('HMGET', cancel, unpack(ids)) else marks = {} end
  for i = 1, #ids do
    if tokens[i] == ARGV[1] .. ':' .. items[i][2] then
      scores[#scores + 1] = now + tonumber(ARGV[2])
      scores[#scores + 1] = ids[i]
      if marks[i] then cancelled[#cancelled + 1] = ids[i] end
    elseif is_unknown(ids[i], tokens[i]) then
      unknown[#unknown + 1] = ids[i]
    else
      lost[#lost + 1] = ids[i]
    end
  end
  if #scores > 0 then redis.call('ZADD', lease, 'XX', unpack(scores)) end
end
if tonumber(ARGV[3]) > 0 then count(stat, 'busy_ms', ARGV[3]) end
return {lost, cancelled, unknown}

-- needs: keys queue/clock queue/unknown
-- Store the progress reports of running tasks.
-- KEYS  the queue's (redis/keys.py)
-- ARGV  1 owner  2 messagepack list of (id, delivery, packed report)
-- REPLY {ids that were taken from this owner}
-- A report counts only with a valid fencing token. It is stamped by the clock of Redis, and removed when the task ends.
local items = cmsgpack.unpack(ARGV[2])
local ids, lost, fresh = {}, {}, {}
for i = 1, #items do ids[i] = items[i][1] end
local tokens = redis.call('HMGET', owner, unpack(ids))
local stamp = struct.pack('>d', now)
for i = 1, #items do
  if tokens[i] == ARGV[1] .. ':' .. items[i][2] then
    fresh[#fresh + 1] = ids[i]
    fresh[#fresh + 1] = stamp .. items[i][3]
  elseif not is_unknown(ids[i], tokens[i]) then
    lost[#lost + 1] = ids[i]
  end
end
if #fresh > 0 then redis.call('HSET', progress, unpack(fresh)) end
return lost

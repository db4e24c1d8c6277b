-- needs: keys queue/inputs
-- What blocked tasks still wait for. It changes nothing.
-- KEYS  the queue's (redis/keys.py)
-- ARGV  1 messagepack list of ids
-- REPLY {number of examined ids, {{id, pending, carried, 1 when its workflow is complete, {position that is missing, ...},
--       1 when not all positions were looked at}, ...}}: the caller calls again for the rest
local MOST_POSITIONS = 5000
local reply, read, looked = {}, 0, 0
for i, id in ipairs(cmsgpack.unpack(ARGV[1])) do
  if read >= MOST_POSITIONS then break end
  looked = i
  local pending, total, carried = parsed_gather(redis.call('HGET', gather, id) or '')
  local until_ms = redis.call('ZSCORE', blocked, id)
  if pending and until_ms then
    local missing, wide = {}, total > MOST_POSITIONS
    if not wide then
      for position = 0, total - 1 do
        if redis.call('HEXISTS', gather, id .. ':' .. position) == 0 then missing[#missing + 1] = position end
      end
      read = read + total + 1
    end
    reply[#reply + 1] = {id, pending, carried, until_ms == 'inf' and 1 or 0, missing, wide and 1 or 0}
  end
end
return {looked, reply}

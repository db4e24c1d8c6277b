-- needs: keys
-- Where the looked at part of the ready list is: a list is longer than what one call may look through.
local MOST_NEW = 5000  -- places that one call looks through

-- The looked at places are `from` to `to` - 1, when `covered` places up to the id `anchor` were looked at. Ids leave the
-- list at its head, and come at both ends, so that they stay together. No values when that cannot be told, since too many
-- ids have come. In a short list whose looked at part has begun to leave, the anchor may have left and come again at the
-- head: nothing of it counts as looked at.
local function looked_at(anchor, history, covered, length)
  if covered > 0 then
    local at = redis.call('LPOS', ready, anchor, 'RANK', -1, 'MAXLEN', MOST_NEW)
    local same = at and (redis.call('HGET', meta, anchor) or '') == history
    if same and (at + 1 >= covered or length > MOST_NEW) then
      return math.max(0, at + 1 - covered), at + 1
    end
    if length > MOST_NEW then return nil end
  end
  return length, length
end

-- needs: keys queue/records queue/unique_keys doctor/faults doctor/anchor
-- Which of these tasks are in no structure, and which are twice in the ready list. It changes nothing.
-- KEYS  the queue's (redis/keys.py); schedules; ticks; ticked
-- ARGV  1 messagepack list of ids that were not seen in the ready list  2 messagepack list of (id, place, place) that
--       were, counted from the anchor  3 id at the tail at the last page  4 its history  5 looked at places up to it
-- REPLY {1 when the look must begin again, {code, id, evidence, ...}, ids and pairs that were looked for, at least one
--       when there is one}
-- All of a list of up to MOST_COMPARED ids is looked through for each id. Of a longer one only what has come since it was
-- looked through, at both of its ends: a hand that has taken ids out of its middle is noticed by the caller.
local MOST_COMPARED = 100000
local length = redis.call('LLEN', ready)
local unseen, pairs_seen = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
local function is_placeless(id)
  return lives(id) and not has(owner, id) and not has(gather, id) and #places_of(id, tag_of(id)) == 0
end
if length <= MOST_COMPARED then
  local compared, done, done_pairs = 0, 0, 0
  for _, id in ipairs(unseen) do
    if compared > MOST_COMPARED then break end
    member_now, done = id, done + 1
    if is_placeless(id) then
      local at = redis.call('LPOS', ready, id)  -- one that came back is near the head
      compared = compared + (at or length)
      if not at then fault('task-lost') end
    end
  end
  for _, pair in ipairs(pairs_seen) do
    if compared > MOST_COMPARED then break end
    member_now, done_pairs = pair[1], done_pairs + 1
    if lives(member_now) then
      compared = compared + length
      if #redis.call('LPOS', ready, member_now, 'COUNT', 2) > 1 then fault('ready-twice') end
    end
  end
  return {0, faults, done, done_pairs}
end
local from, to = looked_at(ARGV[3], ARGV[4], tonumber(ARGV[5]), length)
if not from or from > MOST_NEW then return {1, {}, 0, 0} end
local new = {}
local function note(range) for _, id in ipairs(range) do new[id] = true end end
if from > 0 then note(redis.call('LRANGE', ready, 0, from - 1)) end
if to < length then note(redis.call('LRANGE', ready, to, -1)) end
for _, id in ipairs(unseen) do
  member_now = id
  if not new[id] and is_placeless(id) then fault('task-lost') end
end
for _, pair in ipairs(pairs_seen) do
  local id, one, other = unpack(pair, 1, 3)
  member_now = id
  local function is_at(place)
    local at = to - 1 - place
    return at >= from and redis.call('LINDEX', ready, at) == id
  end
  if lives(id) and is_at(one) and is_at(other) then fault('ready-twice') end
end
return {0, faults, #unseen, #pairs_seen}

-- needs: keys queue/unpacking
-- The records that only some tasks have: the history and the tag.
-- A history (in `meta`) belongs to a task that is not on its first delivery: attempt:delivery:crashes:ready_ms.
-- ready_ms is the time when it became ready, or 0 for when it was enqueued.
-- A tag is a messagepack map: u unique key, l limit key, f fair key, p its position in `parked`, n the tasks that wait
-- for it: a list of edges (queue, id, position, 1 to get the result), e the number of fields of `edges` with more of
-- them, d its own due time while another task has its unique key (Unix ms, 0 when that time is over).

local function parsed_history(value)
  if not value then return 1, 0, 0, 0 end
  local attempt, delivery, crashes, since = string.match(value, '^(%d+):(%d+):(%d+):(%d+)$')
  if not attempt then return 1, 0, 0, 0 end  -- written by another program, which must not stop the queue
  return tonumber(attempt), tonumber(delivery), tonumber(crashes), tonumber(since)
end

local function history_of(id) return parsed_history(redis.call('HGET', meta, id)) end

local function history_text(attempt, delivery, crashes, since)
  return string.format('%d:%d:%d:%d', attempt, delivery, crashes, since)
end

local function write_history(id, attempt, delivery, crashes, since)
  redis.call('HSET', meta, id, history_text(attempt, delivery, crashes, since))
end

local TAG_TYPES = {u = 'string', l = 'string', f = 'string', p = 'string', d = 'number', e = 'number', n = 'table'}

-- The tag in `packed`, without the parts that have a wrong type; nil when there is none.
local function sound_tag(packed)
  local t = unpacked(packed)
  if not t then return nil end
  for part, value in pairs(t) do
    local wanted = TAG_TYPES[part]
    if wanted and type(value) ~= wanted then t[part] = nil end
  end
  if t.p and not t.l then t.p = nil end
  return t
end

local function tag_of(id)
  local packed = redis.call('HGET', tag, id)
  return packed and sound_tag(packed) or nil
end

-- The tags of the first `n` tasks by their position in `ids`, read together.
local function tags_of(ids, n)
  local found = n > 0 and redis.call('HMGET', tag, unpack(ids, 1, n)) or {}
  for i = 1, n do found[i] = found[i] and sound_tag(found[i]) or nil end
  return found
end

-- Whether a delayed task has counted as ready already: the follower of a unique key, whose own time is over, and which
-- checks again whether its holder has ended.
local function is_counted(t) return t and t.d == 0 end

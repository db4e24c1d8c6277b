-- needs: keys queue/clock queue/unpacking queue/records queue/unique_keys queue/inputs
-- The invariants of one member of a structure (docs/decisions/0030). Each check costs the same however full the queue is.
-- `checks` has for each part a function of a member and its value, which calls `fault(code, evidence)` for each broken
-- invariant. What a check finds is true in the moment of the call: all scripts leave the invariants whole.
-- KEYS  the queue's (redis/keys.py); schedules; ticks; ticked
local schedules, ticks, ticked = KEYS[last_key + 1], KEYS[last_key + 2], KEYS[last_key + 3]
local LAST_MS = 253402300799000  -- foreign.LAST_MS
local LONGEST_LEASE_MS = 7 * 86400000  -- far above what QueueOptions accepts
local MOST_LINE = 2000  -- ready tasks that are looked at for one limit key

local checks = {}
local faults = {}  -- code, member, evidence, ...
local member_now

local function fault(code, evidence)
  local n = #faults
  faults[n + 1], faults[n + 2], faults[n + 3] = code, member_now, tostring(evidence or '')
end

local function has(hash, id) return redis.call('HEXISTS', hash, id) == 1 end
local function parked_as(id, t) return t.l .. '\0' .. t.p .. '\0' .. id end

-- The structures in which a task is, beside the ready list, in the order in which `status` looks at them.
local function places_of(id, t)
  local found = {}
  if redis.call('ZSCORE', lease, id) then found[1] = 'lease' end
  if redis.call('ZSCORE', blocked, id) then found[#found + 1] = 'blocked' end
  if t and t.l and t.p and redis.call('ZSCORE', parked, parked_as(id, t)) then found[#found + 1] = 'parked' end
  if redis.call('ZSCORE', delayed, id) then found[#found + 1] = 'delayed' end
  if redis.call('ZSCORE', fair, id) then found[#found + 1] = 'fair' end
  return found
end

-- The id in `id:number`, or in an id with a NUL behind it.
local function owner_of_field(field)
  local plain = string.match(field, '^(.*)%z$') or field
  return string.match(plain, '^(.*):%d+$') or plain
end

local function removed_count() return tonumber(redis.call('HGET', stat, 'removed')) or 0 end

-- A text that changes whenever the ready list does.
local function stamp_of_line()
  local marks = redis.call('HMGET', stat, 'enqueued', 'finished', 'retried', 'deferred', 'taken_over')
  for i = 1, 5 do marks[i] = marks[i] or '' end
  marks[6], marks[7], marks[8] = removed_count(), redis.call('LLEN', ready), redis.call('ZCARD', lease)
  marks[9], marks[10] = redis.call('LINDEX', ready, 0) or '', redis.call('LINDEX', ready, -1) or ''
  return table.concat(marks, ' ')
end

-- Ready tasks, and tasks that are in no structure: the line is looked through for these (lost.lua).
local unplaced = {}

function checks.task(id)
  if has(letter, id) then fault('task-and-letter') end
  local t = tag_of(id)
  local places = places_of(id, t)
  if #places > 1 then
    fault('task-twice', table.concat(places, ' and '))
  elseif #places == 0 and has(owner, id) then
    fault('lease-missing', redis.call('HGET', owner, id))
  elseif #places == 0 and has(gather, id) then
    fault('blocked-unlisted')
  elseif #places == 0 then
    unplaced[#unplaced + 1] = id
  end
  if t and t.u and not lives(redis.call('HGET', unique, t.u)) and redis.call('HGET', unique, t.u .. '\0') ~= id then
    fault('unique-lost', t.u)
  end
end

function checks.lease(id, score)
  if not lives(id) then
    fault('lease-without-task')
  elseif not has(owner, id) then
    fault('token-missing')
  elseif not (tonumber(score) <= now + LONGEST_LEASE_MS) then
    fault('lease-endless', score)
  end
end

function checks.owner(id)
  if redis.call('ZSCORE', lease, id) then return end
  if not lives(id) then
    fault('token-without-task')
  elseif #places_of(id, tag_of(id)) > 0 then
    fault('token-left')
  end
end

function checks.delayed(id, score)
  if not lives(id) then
    fault('delayed-without-task')
  elseif not (tonumber(score) <= LAST_MS) then
    fault('delayed-never', score)
  end
end

function checks.fair(id)
  if not lives(id) then fault('turn-without-task') end
end

-- The limit keys of the ready tasks at the head, read once in a call.
local keys_in_line
local function is_in_line(key)
  if not keys_in_line then
    keys_in_line = {}
    for _, ids in ipairs({redis.call('LRANGE', ready, 0, MOST_LINE - 1), redis.call('ZRANGE', fair, 0, MOST_LINE - 1)}) do
      for _, id in ipairs(ids) do
        local t = tag_of(id)
        if t and t.l and lives(id) then keys_in_line[t.l] = true end
      end
    end
  end
  return keys_in_line[key]
end

function checks.parked(member)
  local key, number, id = string.match(member, '^(.-)%z(%d+)%z(.*)$')
  if not id or not lives(id) then return fault('parked-without-task') end
  local t = tag_of(id)
  if not (t and t.l == key and t.p == number) then return fault('parked-unknown') end
  if (tonumber(redis.call('HGET', slots, key)) or 0) > 0 or redis.call('ZSCORE', retry_at, key) then return end
  local first = redis.call('ZRANGEBYLEX', parked, '[' .. key .. '\0', '[' .. key .. '\0\255', 'LIMIT', 0, 1)[1]
  if first == member and not is_in_line(key) then fault('parked-forever', key) end
end

function checks.blocked(id)
  if not lives(id) then
    fault('blocked-without-task')
  elseif not parsed_gather(redis.call('HGET', gather, id) or '') then
    fault('gather-missing')
  end
end

function checks.gather(field)
  local id = owner_of_field(field)
  if redis.call('ZSCORE', blocked, id) or has(input, id) or has(letter, id) or has(edges, id .. '\0') then return end
  if lives(id) and has(gather, id) and #places_of(id, tag_of(id)) == 0 then return end  -- blocked-unlisted
  fault('gather-left')
end

function checks.unique(field, id)
  local key = string.match(field, '^(.*)%z$')
  if not lives(id) then return fault(key and 'follower-dead' or 'unique-dead', id) end
  local t = tag_of(id)
  if not t or t.u ~= (key or field) then fault(key and 'follower-dead' or 'unique-dead', id) end
end

function checks.edges(field)
  local id = owner_of_field(field)
  if not lives(id) and redis.call('EXISTS', jobs) == 0 then fault('edges-left') end
end

function checks.meta(id, history)
  if not lives(id) then
    fault('meta-left')
  elseif not string.match(history, '^%d+:%d+:%d+:%d+$') then
    fault('history-broken', string.sub(history, 1, 40))
  end
end

local function without_task(code)
  return function(id) if not lives(id) then fault(code) end end
end

checks.progress, checks.errors = without_task('progress-left'), without_task('errors-left')
checks['await'] = without_task('await-left')

function checks.tag(id, packed)
  if not lives(id) then
    fault('tag-left')
  elseif not sound_tag(packed) then
    fault('tag-broken', string.sub(packed, 1, 40))
  end
end

function checks.input(id)
  if not lives(id) and not has(letter, id) then fault('input-left') end
end

function checks.cancel(id)
  if not has(owner, id) then fault('cancel-left') end
end

function checks.letter(id, packed)
  if not redis.call('ZSCORE', dead, id) then fault('letter-unlisted') end
  local parts = unpacked(packed)
  if not (parts and type(parts[5]) == 'string' and type(parts[3]) == 'number') then fault('letter-broken') end
end

function checks.dead(id)
  if not has(letter, id) then fault('letter-missing') end
end

function checks.ticks(name, score)
  if not has(schedules, name) then
    fault('tick-without-schedule')
  elseif not (tonumber(score) >= 0 and tonumber(score) <= LAST_MS) then
    fault('tick-broken', score)
  end
end

function checks.ticked(name)
  if not has(schedules, name) then fault('ticked-left') end
end

-- A schedule that is paused, or is over, has no tick either: the client decides.
function checks.schedules(name)
  if not redis.call('ZSCORE', ticks, name) then unplaced[#unplaced + 1] = name end
end

local KEY_OF = {
  task = task, lease = lease, owner = owner, delayed = delayed, fair = fair, parked = parked, blocked = blocked,
  gather = gather, unique = unique, edges = edges, meta = meta, tag = tag, progress = progress, errors = errors,
  ['await'] = await, input = input, cancel = cancel, letter = letter, dead = dead, ticks = ticks, ticked = ticked,
  schedules = schedules,
}
local SCORED = {lease = true, delayed = true, fair = true, parked = true, blocked = true, dead = true, ticks = true}

-- Check one member, if it is there.
local function check(part, member)
  member_now = member
  local key, value = KEY_OF[part], nil
  if part == 'await' then
    value = redis.call('SISMEMBER', key, member) == 1 and ''
  else
    value = redis.call(SCORED[part] and 'ZSCORE' or 'HGET', key, member)
  end
  if value then checks[part](member, value) end
  return value
end

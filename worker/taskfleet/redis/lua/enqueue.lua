-- needs: keys enqueue/at_once queue/clock queue/counters queue/wake queue/unpacking queue/length
-- then: enqueue/one_by_one
-- Add tasks to one queue. A call that is sent twice adds them once.
-- KEYS  the queue's (redis/keys.py); the key of the sender's last call; the result key of each task to be replaced
-- ARGV  1 activity channel  2 queue name  3 max_length (0 = unlimited)  4 tasks that the whole call adds
--       5 messagepack list of (id, envelope, delay_ms, eta_ms[, more]): eta_ms is a wall-clock time, or 0; or a flat list
--         of id, envelope, id, envelope, … of different tasks that are ready at once and have no `more`: nearly all
--         bulks; or '' for one such task (enqueue/at_once.lua)
--       6 number of this call among the calls of the sender, increasing  7 done channel
--       more: u unique key, m its mode (k keep, r replace, d debounce), x the id that it replaces, r the record of that
--       task's end, t its ttl_ms; l limit key, f fair key, n the edges to tasks that wait for it (queue/records.lua), w
--       its waits: (pending, carried, ms until it is dropped unless confirmed: 0 = confirmed)
-- REPLY {added, {position, holder, ...}, signals in the outbox}, or {-1, waiting} when the queue would hold more than
--       max_length. A holder is, in mode k, the task that has the unique key, which stays. In the other modes it is the
--       newest waiting task of the key: the caller names it in x and calls again.
-- This file adds tasks without `more` to a queue without turns: nearly all calls. Other calls continue in
-- enqueue/one_by_one.lua.
-- A call that was overtaken by its second sending, on another connection, is recognized as well.
local known = redis.call('GET', last_call)
known = known and unpacked(known)
if known then
  if known[1] == ARGV[6] then return known[2] end
  if (tonumber(known[1]) or 0) > tonumber(ARGV[6]) then return {0, {}} end  -- late, and no caller waits for the reply
end

local function answer(reply)
  redis.call('SET', last_call, cmsgpack.pack({ARGV[6], reply}), 'PX', 120000)
  return reply
end

local ID, ENVELOPE, DELAY_MS, ETA_MS, MORE = 1, 2, 3, 4, 5  -- the fields of an item
local items = ARGV[5] == '' and {ARGV[8], ARGV[9]} or cmsgpack.unpack(ARGV[5])
local flat = type(items[1]) == 'string' and items
local ids, plain, large = {}, true, false
if flat then
  for i = 1, #flat, 2 do
    ids[#ids + 1] = flat[i]
    if #flat[i + 1] > 10000 then large = true end
  end
else
  for i = 1, #items do
    ids[i] = items[i][ID]
    if items[i][MORE] then plain = false end
    if #items[i][ENVELOPE] > 10000 then large = true end
  end
end
local present = redis.call('HMGET', task, unpack(ids))
local any_present = false
for i = 1, #ids do if present[i] then any_present = true end end

local seen, added = {}, 0
local taking_turns = redis.call('EXISTS', fair) == 1
local nothing_ready = not taking_turns and redis.call('LLEN', ready) == 0

-- The time (Unix ms) when a task is due; 0 for at once.
local function due_of(item)
  if item[ETA_MS] ~= 0 then return item[ETA_MS] end
  return item[DELAY_MS] > 0 and at_least_now + item[DELAY_MS] or 0
end

-- The reply when the queue has no room for the new tasks of this call, `spared` of which need none; otherwise nil.
local function no_room(spared)
  local most = tonumber(ARGV[3])
  if most == 0 then return nil end
  local fresh = -spared
  for i = 1, #ids do if not present[i] then fresh = fresh + 1 end end
  local waiting = waiting_tasks()
  if fresh > 0 and waiting + math.max(fresh, tonumber(ARGV[4]) - spared) > most then
    write_counts()
    return answer({-1, waiting})
  end
end

-- The reply when all are added. `sooner` says that the first due time that idle workers know may be too late.
local function finish(ready_now, sooner, holders, signals)
  if added > 0 then add('enqueued', added) end
  if large then redis.call('HSET', control, 'large', 1) end  -- from now on claims check the size of each payload
  write_counts()
  if ready_now or sooner then call_a_worker() end
  if nothing_ready and added > 0 then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
  return answer({added, holders, signals})
end

if flat and not taking_turns and not any_present then
  local refusal = no_room(0)
  if refusal then return refusal end
  local stamp = struct.pack('>d', now)
  for i = 2, #flat, 2 do flat[i] = stamp .. flat[i] end
  added = #ids
  redis.call('HSET', task, unpack(flat))
  redis.call('RPUSH', ready, unpack(ids))
  return finish(true, false, {}, 0)
end

if flat then
  items = {}
  for i = 1, #ids do items[i] = {flat[2 * i - 1], flat[2 * i], 0, 0} end
end

if plain and not taking_turns then
  local refusal = no_room(0)
  if refusal then return refusal end
  -- The stamp is the time when the task was accepted, by the clock of Redis. The age of the head is computed from it.
  local stamp = struct.pack('>d', now)
  local blobs, at_once, later, sooner = {}, {}, {}, false
  for i = 1, #items do
    local id = ids[i]
    if not present[i] and not seen[id] then
      seen[id] = true
      added = added + 1
      blobs[#blobs + 1] = id
      blobs[#blobs + 1] = stamp .. items[i][2]
      local due = due_of(items[i])
      if due > now then
        later[#later + 1] = due
        later[#later + 1] = id
      else
        at_once[#at_once + 1] = id
      end
    end
  end
  if added > 0 then redis.call('HSET', task, unpack(blobs)) end
  if #at_once > 0 then redis.call('RPUSH', ready, unpack(at_once)) end
  if #later > 0 then
    add('deferred', #later / 2)
    local head = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
    redis.call('ZADD', delayed, unpack(later))
    sooner = not head or tonumber(redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]) < tonumber(head)
  end
  return finish(#at_once > 0, sooner, {}, 0)
end

-- Add tasks to one queue; sent twice, it adds them once.
-- KEYS  1-13 of the queue (engine/keys.py); after them, only when sent again: the result keys of the same tasks
-- ARGV  1 activity channel  2 queue name  3 max_length (0 = unlimited)  4 tasks that the whole call adds
--       5 messagepack list of (id, envelope, delay_ms, eta_ms): eta_ms is a wall-clock time, or 0
-- REPLY {added}, or {-1, waiting} when the queue would hold more than max_length
-- A task is in `task` and in exactly one of ready, delayed, lease, from here until its outcome is recorded.
local ready, task, delayed, wake = KEYS[1], KEYS[2], KEYS[6], KEYS[11]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local items = cmsgpack.unpack(ARGV[5])

local ids = {}
for i = 1, #items do ids[i] = items[i][1] end
local present = redis.call('HMGET', task, unpack(ids))
for i = 14, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then present[i - 13] = true end
end

local limit = tonumber(ARGV[3])
local before = redis.call('LLEN', ready)
if limit > 0 then
  local fresh = 0
  for i = 1, #items do if not present[i] then fresh = fresh + 1 end end
  local waiting = before + redis.call('ZCARD', delayed)
  if fresh > 0 and waiting + math.max(fresh, tonumber(ARGV[4])) > limit then return {-1, waiting} end
end

-- The stamp is when the task was accepted, by the clock of Redis: the age of the head is read from it.
local stamp = struct.pack('>d', now)
local blobs, push, later, seen = {}, {}, {}, {}
for i = 1, #items do
  local id = ids[i]
  if not present[i] and not seen[id] then
    seen[id] = true
    blobs[#blobs + 1] = id
    blobs[#blobs + 1] = stamp .. items[i][2]
    local due = items[i][4]
    if due == 0 and items[i][3] > 0 then due = now + items[i][3] end
    if due > now then
      later[#later + 1] = due
      later[#later + 1] = id
    else
      push[#push + 1] = id
    end
  end
end
if #blobs == 0 then return {0} end
redis.call('HSET', task, unpack(blobs))
redis.call('HINCRBY', KEYS[9], 'enqueued', #blobs / 2)

local call = #push > 0
if #push > 0 then
  redis.call('RPUSH', ready, unpack(push))
end
if #later > 0 then
  local head = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  redis.call('ZADD', delayed, unpack(later))
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  -- Idle workers sleep until the first due time that they know of: tell one about an earlier one.
  if not head[2] or tonumber(first[2]) < tonumber(head[2]) then call = true end
end
if call and redis.call('LLEN', wake) == 0 then
  redis.call('RPUSH', wake, 1)
  redis.call('PEXPIRE', wake, 60000)
end
if before == 0 then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
return {#blobs / 2}

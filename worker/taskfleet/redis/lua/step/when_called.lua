-- needs: keys
-- The claim of an idle worker, in fewest commands: no outcomes, no limits, and a queue in which nothing is special. Any
-- other call continues in step.lua, as does one that would fill the worker, find a cancelled task or change anything
-- that is not its own. Nothing has been written by then.
-- `control` exists while a queue is paused, or once it has had large payloads or a rate limit.
local function claim_when_called()
  if ARGV[9] == '' and ARGV[13] == '' and ARGV[10] == '0' and ARGV[14] == '0'
    and redis.call('EXISTS', meta, tag, fair, parked, blocked, input, outbox, jobs, arrivals, retry_at, control) == 0
  then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local ends = tonumber(redis.call('ZRANGE', lease, 0, 0, 'WITHSCORES')[2]) or math.huge
    local due = tonumber(redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]) or math.huge
    local wanted = tonumber(ARGV[2])
    local nothing_else = ends > now and due > now and wanted > 0
    local ids = nothing_else and redis.call('LRANGE', ready, 0, math.min(wanted, 100) - 1) or {}
    -- A look that finds nothing, as an idle worker has every two seconds. For the write without effect see step.lua.
    if nothing_else and #ids == 0 and type(redis.pcall('ZADD', lease, 'XX', 0, '')) == 'number' then
      local horizon = math.min(due, ends + 1) - now
      return {now, 0, horizon < 1e15 and horizon or -1, {}, {}, {}, 0, 0, {}, {}, 0}
    end
    if #ids > 0 and #ids < wanted and #ids < 100 then
      local blobs = redis.call('HMGET', task, unpack(ids))
      local ends_at, token = now + tonumber(ARGV[3]), ARGV[1] .. ':1'
      local leases, tokens, claimed, whole = {}, {}, {}, true
      for i = 1, #ids do
        local id = ids[i]
        whole = whole and blobs[i]
        leases[2 * i - 1], leases[2 * i] = ends_at, id
        tokens[2 * i - 1], tokens[2 * i] = id, token
        claimed[3 * i - 2], claimed[3 * i - 1], claimed[3 * i] = id, blobs[i], ''
      end
      -- The first write comes before the tasks are taken from their list: Redis may be out of memory, or no master.
      if whole and type(redis.pcall('ZADD', lease, unpack(leases))) == 'number' then
        redis.call('HSET', owner, unpack(tokens))
        redis.call('LPOP', ready, #ids)
        local horizon = math.min(due, ends + 1, ends_at + 1) - now
        return {now, 0, horizon < 1e15 and horizon or -1, {}, claimed, {}, 0, 0, {}, {}, 0}
      end
    end
  end
end

-- The time of this call, by the clock of Redis, in Unix milliseconds. It does not change during a call.
-- `at_least_now` is rounded up: delays count from it, so that none is too short.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at_least_now = time[1] * 1000 + math.ceil(time[2] / 1000)

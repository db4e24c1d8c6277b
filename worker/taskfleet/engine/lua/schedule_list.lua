-- All schedules of one queue, as of one moment. Reads only; as many as people have written.
-- KEYS  1 schedules  2 ticks  3 ticked
-- REPLY {{name, spec, …}, {name, next tick in ms, …}, {name, state, …}}
return {
  redis.call('HGETALL', KEYS[1]), redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES'), redis.call('HGETALL', KEYS[3]),
}

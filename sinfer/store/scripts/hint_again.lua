#!lua flags=allow-oom
-- Have beat send hints again from a time on, for all windows that are ready by then: workers left
-- those alone that were sent.
--
-- KEYS  1 meta
-- ARGV  1 wait_ms   from now on
-- Returns 1, or 0 when the partition has no state.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local due = now_of(KEYS[1]) + ARGV[1]
redis.call('HSET', KEYS[1], 'hint_until', string.format('%.0f', due - 1))
redis.call('HDEL', KEYS[1], 'hint_name')
return 1

#!lua flags=allow-oom
-- Have beat send hints again from a time on, for all windows that are ready by then: workers left
-- those alone that were sent.
--
-- KEYS  1 meta
-- ARGV  1 wait_ms   from now on
-- Returns the time at which beat has to look at the partition (ms), or 0 when it has no state.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
redis.call('HSET', KEYS[1], 'hint_until', string.format('%.0f', due - 1))
return due

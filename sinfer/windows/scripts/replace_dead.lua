#!lua flags=allow-oom
-- A dead letter failed again before it came to a window: put it back with its history.
--
-- KEYS  1 dead
-- ARGV  1 the dead letter  2 the new one
-- Returns 1, or 0 when it is not there any more.
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('XADD', KEYS[1], '*', 'letter', ARGV[2])
return 1

#!lua flags=allow-oom
-- A dead letter failed again before it came to a window: put it back with its history.
--
-- KEYS  1  meta  hash
--       2  dead  stream
-- ARGV  1  entry   the dead letter's
--       2  letter  the new one
-- Returns 1, or 0 when it is not there any more.
if redis.call('XDEL', KEYS[2], ARGV[1]) == 0 then
  return 0
end
add_entry(KEYS[2], now_of(KEYS[1]), {}, 'letter', ARGV[2])
return 1

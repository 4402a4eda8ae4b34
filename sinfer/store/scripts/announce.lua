#!lua flags=allow-oom
-- Have beat look at a partition in a while, or earlier if it would anyway.
--
-- KEYS  1 clock  2 due
-- ARGV  1 scope  2 wait_ms  from now on
redis.call('ZADD', KEYS[2], 'LT', now_of(KEYS[1], true) + ARGV[2], ARGV[1])

#!lua flags=allow-oom
-- Have beat look at a partition in a while, or earlier if it would anyway.
--
-- KEYS  1  clock  hash
--       2  due    zset
-- ARGV  1  scope    the partition
--       2  wait_ms  from now on
redis.call('ZADD', KEYS[2], 'LT', now_of(KEYS[1], true) + ARGV[2], ARGV[1])

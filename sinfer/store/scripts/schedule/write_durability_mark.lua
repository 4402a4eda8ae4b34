#!lua flags=allow-oom
-- Write something and leave nothing: what WAITAOF then waits for on this connection is behind all
-- that any connection wrote before.
--
-- KEYS  1  mark  string
-- ARGV  none
redis.call('SET', KEYS[1], '')
redis.call('DEL', KEYS[1])

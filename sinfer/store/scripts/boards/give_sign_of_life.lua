#!lua flags=allow-oom
-- Give a sign of life, and forget whoever has given none for long.
--
-- KEYS  1  clock  hash
--       2  alive  zset
-- ARGV  1  silent_ms  how long a sign counts
--       2  kept_ms    how long the key stays when nobody gives signs any more
--       3  sign       what stands for the process; empty: only take the other one back
--       4  before     its sign up to now, where that was another one; empty: none
local now = now_of(KEYS[1], true)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. whole(now - ARGV[1]))
if ARGV[4] ~= '' then
  redis.call('ZREM', KEYS[2], ARGV[4])
end
if ARGV[3] ~= '' then
  redis.call('ZADD', KEYS[2], whole(now), ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end

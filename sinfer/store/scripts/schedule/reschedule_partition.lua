#!lua flags=allow-oom
-- Say when beat has to look at a partition next, unless someone has said so meanwhile.
--
-- KEYS  1  clock  hash
--       2  due    zset
-- ARGV  1  scope    the partition
--       2  due_ms   the time it was due when beat looked
--       3  wait_ms  from now on; -1: not any more
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if score and tonumber(score) ~= tonumber(ARGV[2]) then
  return
end
if ARGV[3] == '-1' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], now_of(KEYS[1], true) + ARGV[3], ARGV[1])
end

#!lua flags=allow-oom
-- Take one of an endpoint's places for a call, or keep the one that the holder has.
--
-- KEYS  1  clock  hash
--       2  slots  zset: holder by the time its place is free anyway (ms)
-- ARGV  1  holder    who takes it
--       2  places    in all
--       3  lease_ms  how long it is held
-- Returns 1, or 0 when all places are taken.
local now = endpoint_time(KEYS[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then
    return 0
  end
end
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[3] * 2)
return 1

#!lua flags=allow-oom
-- Take one of an endpoint's places for a call.
--
-- KEYS  1 slots     sorted set: holder by the time its place is free anyway (ms)
-- ARGV  1 holder    2 places in all    3 lease_ms
-- Returns 1, or 0 when all places are taken.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3] * 2)
return 1

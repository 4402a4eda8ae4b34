#!lua flags=allow-oom
-- Hand a leased window back, to be claimed again at a later time.
--
-- KEYS  1 ready  2 leases  3 tokens  4 attempts
-- ARGV  1 window id  2 token  3 wait_ms  4 counts (0: the attempt does not count)
-- Returns the time it is due (ms), or 0 when the worker does not hold it any more.
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] or redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[1], due, ARGV[1])
if ARGV[4] == '0' then
  redis.call('HINCRBY', KEYS[4], ARGV[1], -1)
end
return due

#!lua flags=allow-oom
-- Hand a leased window back, to be claimed again at a later time, and note what it waits for.
--
-- KEYS  1 meta  2 ready  3 leases  4 tokens  5 attempts  6 away
-- ARGV  1 window id  2 token  3 wait_ms  4 change of the window's tries (0: the attempt counts)
--       5 number of words that follow about what is away: its name, what is wrong, ...; then the
--       names of what answered
-- Returns the time it is due (ms), or 0 when the worker does not hold it any more.
if redis.call('HGET', KEYS[4], ARGV[1]) ~= ARGV[2] or redis.call('ZREM', KEYS[3], ARGV[1]) == 0 then
  return 0
end
local now = now_of(KEYS[1])
local due = now + ARGV[3]
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[2], due, ARGV[1])
if ARGV[4] ~= '0' then
  redis.call('HINCRBY', KEYS[5], ARGV[1], ARGV[4])
end
local away = 5 + ARGV[5]
for i = 6, away, 2 do
  redis.call('HSETNX', KEYS[6], 'since:' .. ARGV[i], string.format('%.0f', now))
  redis.call('HSET', KEYS[6], 'error:' .. ARGV[i], ARGV[i + 1])
end
for i = away + 1, #ARGV do
  redis.call('HDEL', KEYS[6], 'since:' .. ARGV[i], 'error:' .. ARGV[i])
end
return due

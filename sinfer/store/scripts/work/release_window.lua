#!lua flags=allow-oom
-- Hand a leased window back, to be claimed again at a later time, and note what it waits for.
--
-- KEYS  1  meta      hash
--       2  ready     zset
--       3  leases    zset
--       4  tokens    hash
--       5  attempts  hash
--       6  away      hash
-- ARGV  1  window id
--       2  token    of the claim
--       3  wait_ms  until it may be claimed again
--       4  counts   whether the attempt counts: 1 or 0
--       5  words    how many follow about what is unavailable: its name, what is wrong, ...; then
--                   the names of what answered
-- Returns the time it is due (ms), or 0 when the worker does not hold it any more.
if not end_lease(KEYS[4], KEYS[3], ARGV[1], ARGV[2]) then
  return 0
end
local now = now_of(KEYS[1])
local due = now + ARGV[3]
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[2], due, ARGV[1])
if ARGV[4] == '0' then
  excuse(KEYS[5], ARGV[1])
end
local away = 5 + ARGV[5]
for i = 6, away, 2 do
  redis.call('HSETNX', KEYS[6], 'since:' .. ARGV[i], whole(now))
  redis.call('HSET', KEYS[6], 'error:' .. ARGV[i], ARGV[i + 1])
end
for i = away + 1, #ARGV do
  redis.call('HDEL', KEYS[6], 'since:' .. ARGV[i], 'error:' .. ARGV[i])
end
return due

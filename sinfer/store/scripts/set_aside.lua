#!lua flags=allow-oom
-- Set a leased window aside: its messages are not all there, so nobody may process it until it was
-- made whole or given up. It stays among the closed windows; the claim does not count.
--
-- KEYS  1 meta  2 closed  3 leases  4 tokens  5 attempts  6 aside
-- ARGV  1 window id  2 token  3 what is wrong with it  4 change of the window's tries
-- Returns 1, or 0 when the worker does not hold it any more.
if redis.call('HGET', KEYS[4], ARGV[1]) ~= ARGV[2] or redis.call('ZREM', KEYS[3], ARGV[1]) == 0 then
  return 0
end
local now = now_of(KEYS[1])
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('HINCRBY', KEYS[5], ARGV[1], ARGV[4])
redis.call('HSET', KEYS[6], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[3])
return 1

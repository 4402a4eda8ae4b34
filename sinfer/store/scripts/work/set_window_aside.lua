#!lua flags=allow-oom
-- Set a leased window aside: its messages are not all there, so nobody may process it until it was
-- made whole or given up. It stays among the closed windows; the claim does not count.
--
-- KEYS  1  meta      hash
--       2  closed    hash
--       3  leases    zset
--       4  tokens    hash
--       5  attempts  hash
--       6  aside     hash
-- ARGV  1  window id
--       2  token   of the claim
--       3  damage  what is wrong with it
-- Returns 1, or 0 when the worker does not hold it any more.
if not end_lease(KEYS[4], KEYS[3], ARGV[1], ARGV[2]) then
  return 0
end
local now = now_of(KEYS[1])
redis.call('HDEL', KEYS[4], ARGV[1])
excuse(KEYS[5], ARGV[1])
redis.call('HSET', KEYS[6], ARGV[1], whole(now) .. ' ' .. ARGV[3])
return 1

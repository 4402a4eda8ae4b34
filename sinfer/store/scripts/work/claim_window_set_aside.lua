#!lua flags=allow-oom
-- Lease a window that was set aside, to give it up.
--
-- KEYS  1  meta    hash
--       2  closed  hash
--       3  leases  zset
--       4  tokens  hash
--       5  aside   hash
-- ARGV  1  window id
--       2  lease_ms  how long it is leased
-- Returns {token, now_ms}, or nil when the window is not set aside any more.
local now = now_of(KEYS[1])
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 or redis.call('HDEL', KEYS[5], ARGV[1]) == 0 then
  return nil
end
local claims = next_token(redis.call('HGET', KEYS[1], 'claims'), now)
local token = whole(claims)
redis.call('HSET', KEYS[1], 'claims', token)
redis.call('HSET', KEYS[4], ARGV[1], token)
redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[1])
return {claims, now}

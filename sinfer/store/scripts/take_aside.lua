#!lua flags=allow-oom
-- Lease a window that was set aside, to give it up.
--
-- KEYS  1 meta  2 closed  3 leases  4 tokens  5 aside
-- ARGV  1 window id  2 lease_ms
-- Returns {token, now_ms}, or nil when the window is not set aside any more.
local now = now_of(KEYS[1])
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 or redis.call('HDEL', KEYS[5], ARGV[1]) == 0 then
  return nil
end
local claims = math.max(tonumber(redis.call('HGET', KEYS[1], 'claims') or '0') + 1, now)
local token = string.format('%.0f', claims)
redis.call('HSET', KEYS[1], 'claims', token)
redis.call('HSET', KEYS[4], ARGV[1], token)
redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[1])
return {claims, now}

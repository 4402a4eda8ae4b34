#!lua flags=allow-oom
-- Take the writer lease of a partition from whoever holds it: what that writer commits from now on
-- is refused.
--
-- KEYS  1  meta  hash
-- ARGV  1  owner     who takes it
--       2  lease_ms  how long the lease lasts
-- Returns as take_writer_lease.lua does.
local now = now_of(KEYS[1], true)
local held = redis.call('HMGET', KEYS[1], 'token', 'commits')
local token = next_token(held[1], now)
redis.call('HSET', KEYS[1], 'token', whole(token), 'owner', ARGV[1],
  'lease_until', whole(now + ARGV[2]), 'format', FORMAT)
return {1, token, tonumber(held[2] or '0'), now}

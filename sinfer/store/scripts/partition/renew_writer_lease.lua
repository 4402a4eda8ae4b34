#!lua flags=allow-oom
-- Keep the writer lease of a partition; it is never taken here.
--
-- KEYS  1  meta  hash
-- ARGV  1  token     the fencing token of the lease
--       2  lease_ms  how long the lease lasts from now
--       3  commits   how many the caller knows of; when the store has fewer, it went back, as
--                    after a power cut, and the lease is not the caller's any more
-- Returns {1}; {0, owner} when it was given back or lost. One that ran out and that nobody took
-- since is kept all the same.
local now = now_of(KEYS[1])
local held = redis.call('HMGET', KEYS[1], 'owner', 'token', 'commits')
if not held[1] or held[2] ~= ARGV[1] or tonumber(held[3] or '0') < tonumber(ARGV[3]) then
  return {0, held[1] or ''}
end
redis.call('HSET', KEYS[1], 'lease_until', now + ARGV[2])
return {1}

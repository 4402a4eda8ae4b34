#!lua flags=allow-oom
-- Take or keep the writer lease of a partition.
--
-- KEYS  1  meta  hash
-- ARGV  1  owner     who asks
--       2  lease_ms  how long the lease lasts
--       3  commits   how many the caller knows of; when the store has fewer, it went back, as
--                    after a power cut, and the caller's lease is a new one
-- Returns {1, token, commits, now_ms} when the caller holds the lease now; the token grows with
-- each change of owner, even when Redis was wiped or has lost its last second: it follows the clock.
-- {0, owner, remaining_ms, now_ms} when someone else holds it.
-- A lease of somebody else that ran out and was not given back shows that its process died, or was
-- stopped for so long: such take-overs are counted, until the new writer finds that all is well.
local now = now_of(KEYS[1], true)
local held = redis.call('HMGET', KEYS[1], 'owner', 'lease_until', 'token', 'commits', 'deaths')
local until_ms = tonumber(held[2] or '0')
if held[1] and held[1] ~= ARGV[1] and until_ms > now then
  return {0, held[1], until_ms - now, now}
end
if held[1] and held[1] ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'deaths', string.format('%d', (tonumber(held[5] or '0') or 0) + 1))
end
local token = held[3]
if held[1] ~= ARGV[1] or until_ms <= now or tonumber(held[4] or '0') < tonumber(ARGV[3]) then
  token = next_token(token, now)
  redis.call('HSET', KEYS[1], 'token', whole(token))
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'lease_until', now + ARGV[2], 'format', FORMAT)
return {1, tonumber(token), tonumber(held[4] or '0'), now}

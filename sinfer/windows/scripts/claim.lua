#!lua flags=allow-oom
-- Lease closed windows to a worker, the longest waiting first.
--
-- KEYS  1 meta  2 closed  3 ready  4 leases  5 tokens  6 attempts
-- ARGV  1 limit      most windows to claim
--       2 lease_ms
--       3 hinted     windows that the Celery message in hand was sent for
-- Returns {now_ms, ready, window id, token, attempt, closed value, ...}: ready counts the windows
-- that could still be claimed now; the closed value is 'reason closed_ms record'.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] ~= '0' then
  local hinted = tonumber(redis.call('HGET', KEYS[1], 'hinted') or '0') - ARGV[3]
  redis.call('HSET', KEYS[1], 'hinted', math.max(0, hinted))
end
local ids = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[1])
local claimed = {now, 0}
for _, id in ipairs(ids) do
  local value = redis.call('HGET', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
  if value then
    local token = redis.call('HINCRBY', KEYS[1], 'claims', 1)
    local attempt = redis.call('HINCRBY', KEYS[6], id, 1)
    redis.call('HSET', KEYS[5], id, token)
    redis.call('ZADD', KEYS[4], now + ARGV[2], id)
    local n = #claimed
    claimed[n + 1], claimed[n + 2], claimed[n + 3], claimed[n + 4] = id, token, attempt, value
  end
end
claimed[2] = redis.call('ZCOUNT', KEYS[3], '-inf', now)
return claimed

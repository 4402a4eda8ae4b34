#!lua flags=allow-oom
-- Renew the leases of windows.
--
-- KEYS  1 meta  2 leases  3 tokens
-- ARGV  1 lease_ms, then window id, token, ...
-- Returns for each window 1, or 0 when the worker does not hold it any more.
local now = now_of(KEYS[1])
local held = {}
for i = 2, #ARGV, 2 do
  if redis.call('HGET', KEYS[3], ARGV[i]) == ARGV[i + 1] and redis.call('ZSCORE', KEYS[2], ARGV[i]) then
    redis.call('ZADD', KEYS[2], now + ARGV[1], ARGV[i])
    held[#held + 1] = 1
  else
    held[#held + 1] = 0
  end
end
return held

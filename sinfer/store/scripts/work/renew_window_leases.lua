#!lua flags=allow-oom
-- Renew the leases of windows.
--
-- KEYS  1  meta    hash
--       2  leases  zset
--       3  tokens  hash
-- ARGV  1    lease_ms  how long the leases last from now
--       2..  for each window: its id, its token
-- Returns for each window 1, or 0 when the worker does not hold it any more.
local now = now_of(KEYS[1])
local held = {}
for i = 2, #ARGV, 2 do
  if holds(KEYS[3], KEYS[2], ARGV[i], ARGV[i + 1]) then
    redis.call('ZADD', KEYS[2], now + ARGV[1], ARGV[i])
    held[#held + 1] = 1
  else
    held[#held + 1] = 0
  end
end
return held

#!lua flags=allow-oom
-- Keep something about a leased window for its next attempt: its model output, or finished sinks.
--
-- KEYS  1  tokens  hash
--       2  leases  zset
--       3  output  hash
-- ARGV  1    window id
--       2    token  of the claim
--       3..  for each field: its name, its value
-- Returns 1, or 0 when the worker does not hold the window any more.
if not holds(KEYS[1], KEYS[2], ARGV[1], ARGV[2]) then
  return 0
end
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
return 1

#!lua flags=allow-oom
-- Keep something about a leased window for its next attempt: its model output, or finished sinks.
--
-- KEYS  1 tokens  2 leases  3 output
-- ARGV  1 window id  2 token, then field, value, ...
-- Returns 1, or 0 when the worker does not hold the window any more.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] or not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return 0
end
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
return 1

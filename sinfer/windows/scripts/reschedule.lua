#!lua flags=allow-oom
-- Say when beat has to look at a partition next, unless someone has said so meanwhile.
--
-- KEYS  1 due
-- ARGV  1 scope  2 the time it was due when beat looked (ms)  3 next time (ms; 0: not any more)
-- Returns 1, or 0 when the time had been changed.
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if score and tonumber(score) ~= tonumber(ARGV[2]) then
  return 0
end
if ARGV[3] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
return 1

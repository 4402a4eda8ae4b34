#!lua flags=allow-oom
-- Give a trial back that was not used: another caller may have it.
--
-- KEYS  1  breaker  hash
-- ARGV  1  caller  whose trial it was
-- Returns 1, or 0 when another has the trial.
local trial = redis.call('HGET', KEYS[1], 'trial')
if trial and trial ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], 'trial', 'trial_until')
return 1

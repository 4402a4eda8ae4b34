#!lua flags=allow-oom
-- Whether an endpoint may be called.
--
-- KEYS  1  clock    hash
--       2  breaker  hash
-- ARGV  1  caller    who asks; unique to this question
--       2  trial_ms  how long a trial may take
-- Returns {state, wait_ms}: 'closed' any number of calls; 'open' none for wait_ms;
--         'half' one call on trial, given to this caller, also when it asks again.
local TRIAL_POLL_MS = 2500 -- a trial may end at any moment, but asking costs Celery messages
local kept = redis.call('HMGET', KEYS[2], 'open_until', 'trial', 'trial_until')
local open_until = tonumber(kept[1] or '0')
if open_until == 0 then
  return {'closed', 0}
end
local now = endpoint_time(KEYS[1])
if open_until > now then
  return {'open', open_until - now}
end
local trial_ms = tonumber(kept[3] or '0') - now
if kept[2] and kept[2] ~= ARGV[1] and trial_ms > 0 then
  return {'open', math.min(TRIAL_POLL_MS, math.max(50, trial_ms))}
end
redis.call('HSET', KEYS[2], 'trial', ARGV[1], 'trial_until', whole(now + ARGV[2]))
return {'half', 0}

#!lua flags=allow-oom
-- Whether an endpoint may be called.
--
-- KEYS  1 breaker   2 probe   string that lives as long as one trial is under way
-- ARGV  1 how long a trial may take (ms)
-- Returns {state, wait_ms}: 'closed' any number of calls; 'open' none for wait_ms;
--         'half' one call on trial, given to this caller.
local TRIAL_POLL_MS = 2500 -- a trial may end at any moment, but asking costs Celery messages
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local open_until = tonumber(redis.call('HGET', KEYS[1], 'open_until') or '0')
if open_until == 0 then
  return {'closed', 0}
end
if open_until > now then
  return {'open', open_until - now}
end
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then
  return {'half', 0}
end
return {'open', math.min(TRIAL_POLL_MS, math.max(50, redis.call('PTTL', KEYS[2])))}

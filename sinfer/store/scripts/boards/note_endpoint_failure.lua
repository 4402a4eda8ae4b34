#!lua flags=allow-oom
-- Note that a call failed; open the breaker after so many failures in a row. A trial ends with it.
--
-- KEYS  1  clock    hash
--       2  breaker  hash: failures, opened (times in a row), open_until (ms), trial (who has it),
--                   trial_until (ms)
-- ARGV  1  failures    in a row that open it
--       2  first_ms    the first pause
--       3  longest_ms  the longest pause
-- Returns {milliseconds that the breaker stays open (0: closed), 1 when this call opened it}.
local now = endpoint_time(KEYS[1])
redis.call('HDEL', KEYS[2], 'trial', 'trial_until')
local open_until = tonumber(redis.call('HGET', KEYS[2], 'open_until') or '0')
if open_until > now then
  return {open_until - now, 0}
end
local failures = redis.call('HINCRBY', KEYS[2], 'failures', 1)
redis.call('PEXPIRE', KEYS[2], 3600000)
if failures < tonumber(ARGV[1]) then
  return {0, 0}
end
local opened = redis.call('HINCRBY', KEYS[2], 'opened', 1)
local pause = math.min(tonumber(ARGV[3]), ARGV[2] * 2 ^ math.min(opened - 1, 30))
redis.call('HSET', KEYS[2], 'open_until', whole(now + pause))
return {pause, 1}

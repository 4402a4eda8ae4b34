#!lua flags=allow-oom
-- Note again how many windows hold shared segments of which that is not known any more, if nothing
-- has happened to the partition's windows since they were counted. A segment that all of its windows
-- are done with is freed, as in complete.lua.
--
-- KEYS  1 meta  2 open  3 closed  4 refs  5 held  6 members  7.. for each segment: it, and its set of
--       given up messages
-- ARGV  1 commits  2 windows (done so far)  3 open windows  4 closed windows, when it was counted,
--       then for each segment its name and the number of its holders
-- Returns how many were noted or freed.
local meta = redis.call('HMGET', KEYS[1], 'commits', 'windows')
if (meta[1] or '') ~= ARGV[1] or (meta[2] or '') ~= ARGV[2]
  or redis.call('HLEN', KEYS[2]) ~= tonumber(ARGV[3])
  or redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[4]) then
  return 0
end
local changed, key = 0, 7
for i = 5, #ARGV, 2 do
  local segment, holders = ARGV[i], tonumber(ARGV[i + 1])
  local known = tonumber(redis.call('HGET', KEYS[4], segment) or '0')
  if known <= 0 and holders > 0 then
    redis.call('HSET', KEYS[4], segment, holders)
    changed = changed + 1
  elseif known < 0 and holders == 0 then
    local messages = tonumber(redis.call('HGET', KEYS[5], segment) or '0')
    local given_up, filtered = without_result(KEYS[key + 1])
    redis.call('HDEL', KEYS[4], segment)
    redis.call('HDEL', KEYS[5], segment)
    redis.call('UNLINK', KEYS[key], KEYS[key + 1])
    redis.call('HINCRBY', KEYS[1], 'sunk', messages - given_up - filtered)
    redis.call('HINCRBY', KEYS[1], 'filtered', filtered)
    redis.call('HINCRBY', KEYS[1], 'dead', given_up)
    local number = 0
    redis.call('HDEL', KEYS[6], segment)
    repeat
      number = number + 1
    until redis.call('HDEL', KEYS[6], segment .. '#' .. number) == 0
    changed = changed + 1
  end
  key = key + 2
end
return changed

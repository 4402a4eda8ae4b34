#!lua flags=allow-oom
-- Note again how many windows hold shared segments of which that is not known any more, if nothing
-- has happened to the partition's windows since they were counted. A segment that all of its windows
-- are done with is freed.
--
-- KEYS  1    meta     hash
--       2    open     hash
--       3    closed   hash
--       4    refs     hash
--       5    held     hash
--       6    members  hash
--       7..  for each segment: it, list, and the set of its messages that were given up
-- ARGV  1    commits  so far, when it was counted
--       2    windows  done so far, likewise
--       3    open     windows, likewise
--       4    closed   windows, likewise
--       5..  for each segment: its name, the number of its holders
-- Returns how many were noted or freed.
check_format(KEYS[1], redis.call('HGET', KEYS[1], 'format'))
local meta = redis.call('HMGET', KEYS[1], 'commits', 'windows')
if (meta[1] or '') ~= ARGV[1] or (meta[2] or '') ~= ARGV[2]
  or redis.call('HLEN', KEYS[2]) ~= tonumber(ARGV[3])
  or redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[4]) then
  return 0
end
local keys = {meta = KEYS[1], refs = KEYS[4], held = KEYS[5], members = KEYS[6]}
local changed, key = 0, 7
for i = 5, #ARGV, 2 do
  local segment, holders = ARGV[i], tonumber(ARGV[i + 1])
  local known = tonumber(redis.call('HGET', KEYS[4], segment) or '0')
  if known <= 0 and holders > 0 then
    redis.call('HSET', KEYS[4], segment, holders)
    changed = changed + 1
  elseif known < 0 and holders == 0 then
    free_segment(keys, segment, KEYS[key], KEYS[key + 1])
    changed = changed + 1
  end
  key = key + 2
end
return changed

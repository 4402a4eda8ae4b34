#!lua flags=allow-oom
-- Remove the oldest dead letters that are above the task's own caps.
--
-- KEYS  1 meta  2 dead
-- ARGV  1 most        dead letters that stay (-1: any number)
--       2 since_ms    older ones go (0: of any age)
-- Returns how many were removed.
local removed = 0
if ARGV[2] ~= '0' then
  removed = removed + redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
end
if ARGV[1] ~= '-1' then
  removed = removed + redis.call('XTRIM', KEYS[2], 'MAXLEN', ARGV[1])
end
if removed > 0 then
  redis.call('HINCRBY', KEYS[1], 'trimmed', removed)
end
return removed

#!lua flags=allow-oom
-- Remove dead letters, and count what becomes of each of them.
--
-- KEYS  1  meta  hash
--       2  dead  stream
-- ARGV  1    counts  how many; then field, change for each
--       2..  letters  the dead letters
-- Returns how many were still there.
check_format(KEYS[1], redis.call('HGET', KEYS[1], 'format'))
local first = 2 + 2 * tonumber(ARGV[1])
local removed = 0
for i = first, #ARGV do
  removed = removed + redis.call('XDEL', KEYS[2], ARGV[i])
end
if removed > 0 then
  for i = 2, first - 1, 2 do
    redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1] * removed)
  end
end
return removed

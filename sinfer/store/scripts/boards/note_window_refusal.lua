#!lua flags=allow-oom
-- Note that all of a window was refused, and tell whether others are taken.
--
-- KEYS  1  refusals  hash: of the task
-- ARGV  1  by         what refuses
--       2  window id
--       3  taken      windows of the task that were taken up to now
--       4  items      of the window
--       5  alike      what refusals that are alike have in common
--       6  kept_ms    how long to remember it
--       7  most       entries beyond which stale ones are dropped
-- Returns {1, 0, 0, 0} when windows were taken since this one was refused first; else
--         {0, windows, items, age_ms} of those that were refused alike since the last was taken,
--         this one included; age_ms is since the first of them.
local now = now_of(KEYS[1], true)
local prefix = ARGV[1] .. '\0'
local taken = tonumber(ARGV[3])
local pattern = '^(%d+):(%d+):(%d+):(.*)$'

local own = redis.call('HGET', KEYS[1], prefix .. ARGV[2])
if own then
  local before = tonumber((string.match(own, pattern)))
  if taken > before then
    redis.call('HDEL', KEYS[1], prefix .. ARGV[2])
    return {1, 0, 0, 0}
  end
else
  own = string.format('%.0f:%.0f:%s:%s', taken, now, ARGV[4], ARGV[5])
  redis.call('HSET', KEYS[1], prefix .. ARGV[2], own)
end
redis.call('PEXPIRE', KEYS[1], ARGV[6])

local windows, items, first = 0, 0, now
local all = redis.call('HGETALL', KEYS[1])
local is_full = #all / 2 > tonumber(ARGV[7])
for i = 1, #all, 2 do
  local before, since, count, alike = string.match(all[i + 1], pattern)
  if before and tonumber(before) < taken then
    if is_full then
      redis.call('HDEL', KEYS[1], all[i])
    end
  elseif before and alike == ARGV[5] and string.sub(all[i], 1, #prefix) == prefix then
    windows = windows + 1
    items = items + tonumber(count)
    first = math.min(first, tonumber(since))
  end
end
return {0, windows, items, math.max(0, now - first)}

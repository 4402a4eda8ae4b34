#!lua flags=allow-oom
-- Take the turn of a tick, which none may take so soon after another, and see what is due.
--
-- KEYS  1 clock  2 due
-- ARGV  1 name      of the tick: asked again under it, it has the same turn still
--       2 pause_ms  how long it keeps others off
--       3 sweep_ms  after how long all partitions are looked at
--       4 limit     most partitions
-- Returns {} when another tick has the turn; else {sweep, scope, score, ...}: whether all partitions
-- are to be looked at, and those that are due, the longest waiting first, with the time as it is
-- kept.
local now = now_of(KEYS[1], true)
local kept = redis.call('HMGET', KEYS[1], 'tick', 'tick_until', 'sweep', 'sweep_until')
if kept[1] ~= ARGV[1] then
  if tonumber(kept[2] or '0') > now then
    return {}
  end
  redis.call('HSET', KEYS[1], 'tick', ARGV[1], 'tick_until', string.format('%.0f', now + ARGV[2]))
end
local sweep = kept[3] == ARGV[1]
if not sweep and tonumber(kept[4] or '0') <= now then
  sweep = true
  redis.call('HSET', KEYS[1], 'sweep', ARGV[1], 'sweep_until', string.format('%.0f', now + ARGV[3]))
end
local answer = {sweep and 1 or 0}
local due = redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[4], 'WITHSCORES')
for i = 1, #due do
  answer[i + 1] = due[i]
end
return answer

#!lua flags=allow-oom
-- Take the turn of a tick, which none may take so soon after another, and see what is due.
--
-- KEYS  1  clock  hash
--       2  due    zset
-- ARGV  1  name      of the tick: asked again under it, it has the same turn still
--       2  pause_ms  how long it keeps others off
--       3  limit     most partitions
--       4..  for each thing that is done from time to time: its name, every_ms
-- Returns {} when another tick has the turn; else for each of these things 1 when it is to be done
-- now, or 0; then scope, score, ... of the partitions that are due, the longest waiting first, with
-- the time as it is kept.
local now = now_of(KEYS[1], true)
local kept = redis.call('HMGET', KEYS[1], 'tick', 'tick_until')

-- A time that lies further ahead than any pause is none that a tick has set.
local function keeps_off(text, longest)
  local until_ms = tonumber(text or '') or 0
  return until_ms > now and until_ms <= now + longest
end

if kept[1] ~= ARGV[1] then
  if keeps_off(kept[2], 60000) then
    return {}
  end
  redis.call('HSET', KEYS[1], 'tick', ARGV[1], 'tick_until', whole(now + ARGV[2]))
end
local answer = {}
for i = 4, #ARGV, 2 do
  local field = ARGV[i]
  local last = redis.call('HMGET', KEYS[1], field, field .. '_until')
  local mine = last[1] == ARGV[1]
  if not mine and not keeps_off(last[2], 3600000) then
    mine = true
    local until_ms = whole(now + ARGV[i + 1])
    redis.call('HSET', KEYS[1], field, ARGV[1], field .. '_until', until_ms)
  end
  answer[#answer + 1] = mine and 1 or 0
end
local due = redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
for i = 1, #due do
  answer[#answer + 1] = due[i]
end
return answer

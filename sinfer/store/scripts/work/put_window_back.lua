#!lua
-- Put a window back that was set aside, and chunks that were lost into its segments. All of it
-- happens or nothing.
--
-- KEYS  1    meta    hash
--       2    closed  hash
--       3    ready   zset
--       4    aside   hash
--       5..  segments  lists: of the window
-- ARGV  1    window id
--       2..  chunks  for each: which of the segments (from 1), its place (from 1), the chunk
-- Returns 1, or 0 when the window is not set aside any more.
if redis.call('HEXISTS', KEYS[4], ARGV[1]) == 0 or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
  return 0
end
redis.call('ZCARD', KEYS[3])
local now = now_of(KEYS[1])
for i = 2, #ARGV, 3 do
  local segment, place = KEYS[4 + ARGV[i]], tonumber(ARGV[i + 1])
  local kind = redis.call('TYPE', segment).ok
  if kind ~= 'list' and kind ~= 'none' then
    redis.call('DEL', segment)
  end
  for _ = redis.call('LLEN', segment) + 1, place do
    redis.call('RPUSH', segment, '')
  end
  redis.call('LSET', segment, place - 1, ARGV[i + 2])
end
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
return 1

#!lua flags=allow-oom
-- Close an open window whose record cannot be read, under another id.
--
-- KEYS  1  meta       hash
--       2  open       hash
--       3  deadlines  zset
--       4  closed     hash
--       5  ready      zset
--       6  segment    list: of the window
--       7  other      list: the segment of the other id
--       8  unfinished zset
-- ARGV  1  token  the fencing token of the writer's lease
--       2  window id
--       3  other id: the window's from now on
-- Returns 1, or 0 when someone else holds the lease or the window is not open any more.
local record = redis.call('HGET', KEYS[2], ARGV[2])
if not record or redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
local now = now_of(KEYS[1])
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[2])
if redis.call('EXISTS', KEYS[6]) == 1 then
  redis.call('RENAME', KEYS[6], KEYS[7])
end
redis.call('HSET', KEYS[4], ARGV[3], closed_value('drain', now, record))
redis.call('ZADD', KEYS[5], now, ARGV[3])
redis.call('ZADD', KEYS[8], 0, ARGV[3]) -- nobody knows which messages are in it
return 1

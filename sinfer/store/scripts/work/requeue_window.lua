#!lua
-- Put a window back to be processed once more: dead letters that are redriven, taken off the dead
-- letters in the same step, or a finished window whose messages were read again.
--
-- KEYS  1  meta     hash
--       2  closed   hash
--       3  ready    zset
--       4  dead     stream
--       5  segment  list
--       6  members  hash
-- ARGV  1    window id
--       2    reason   why it closed
--       3    record   of the window
--       4    chunk    its messages
--       5    fetched  messages that were read again, added to the account
--       6    members  of the chunk, as members.py says
--       7..  letters  the dead letters
-- Returns 1, or 0 when the dead letters are not all there any more; then nothing was changed.
local now = now_of(KEYS[1])
redis.call('ZCARD', KEYS[3])
redis.call('LLEN', KEYS[5])
redis.call('HLEN', KEYS[6])
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  return 1
end
for i = 7, #ARGV do
  if #redis.call('XRANGE', KEYS[4], ARGV[i], ARGV[i]) == 0 then
    return 0
  end
end
redis.call('RPUSH', KEYS[5], ARGV[4])
redis.call('HSET', KEYS[6], ARGV[1], ARGV[6])
redis.call('HSET', KEYS[2], ARGV[1], closed_value(ARGV[2], now, ARGV[3]))
redis.call('ZADD', KEYS[3], now, ARGV[1])
for i = 7, #ARGV do
  redis.call('XDEL', KEYS[4], ARGV[i])
end
if #ARGV > 6 then
  redis.call('HINCRBY', KEYS[1], 'dead', 6 - #ARGV)
  redis.call('HINCRBY', KEYS[1], 'redriven', #ARGV - 6)
end
if ARGV[5] ~= '0' then
  redis.call('HINCRBY', KEYS[1], 'fetched', ARGV[5])
end
return 1

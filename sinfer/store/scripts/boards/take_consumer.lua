#!lua
-- Note which partition reads a consumer, unless that is another one.
--
-- KEYS  1  consumers  hash
-- ARGV  1  consumer
--       2  partition  that reads it; empty for none any more
--       3  before     the partition that was noted before; empty for none
-- Returns the partition that is noted now.
local noted = redis.call('HGET', KEYS[1], ARGV[1])
if (noted or '') == ARGV[3] then
  if ARGV[2] == '' then
    redis.call('HDEL', KEYS[1], ARGV[1])
  else
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  end
  return ARGV[2]
end
return noted or ''

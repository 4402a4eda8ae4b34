#!lua flags=allow-oom
-- Make sealed windows ready that the watermark of the whole task has passed.
--
-- KEYS  1  meta    hash
--       2  sealed  zset
--       3  ready   zset
-- ARGV  1  watermark  the least of the task's partitions (ms; inf when all are idle)
--       2  limit      most windows in one call
--       3  hint_ms    how long a Celery message counts as on its way
--       4  name       of this call
-- Returns {released, hint, left}: hint counts ready windows that no Celery message has been
-- promised for, left those that stay sealed.
local now = now_of(KEYS[1])
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZADD', KEYS[3], now, id)
end
local hint = 0
if #ids > 0 or was_promised(KEYS[1], ARGV[4]) then
  hint = promise(KEYS[1], ARGV[4], claimable(KEYS[3], now), now, ARGV[3])
end
return {#ids, hint, redis.call('ZCARD', KEYS[2])}

#!lua flags=allow-oom
-- Make sealed windows ready that the watermark of the whole task has passed.
--
-- KEYS  1 meta  2 sealed  3 ready
-- ARGV  1 watermark  the least of the task's partitions (ms; inf when all are idle)
--       2 limit      most windows in one call
--       3 hint_ms    how long a Celery message counts as on its way
-- Returns {released, hint, left}: hint counts ready windows that no Celery message has been
-- promised for, left those that stay sealed.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZADD', KEYS[3], now, id)
end
local hint = 0
if #ids > 0 then
  local meta = redis.call('HMGET', KEYS[1], 'hinted', 'hint_until')
  local hinted = tonumber(meta[1] or '0')
  if tonumber(meta[2] or '0') < now then
    hinted = 0
  end
  local ready = redis.call('ZCOUNT', KEYS[3], '-inf', now)
  if ready > hinted then
    hint = ready - hinted
    redis.call('HSET', KEYS[1], 'hinted', ready, 'hint_until', now + ARGV[3])
  end
end
return {#ids, hint, redis.call('ZCARD', KEYS[2])}

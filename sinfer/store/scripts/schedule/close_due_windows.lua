#!lua flags=allow-oom
-- What beat does for a partition: close open windows by time, take windows back whose lease ran
-- out, and say what is left to do.
--
-- KEYS  1  meta       hash
--       2  open       hash
--       3  deadlines  zset
--       4  closed     hash
--       5  ready      zset
--       6  leases     zset
--       7  sealed     zset
--       8  attempts   hash
--       9  deaths     hash
-- ARGV  1  limit    most windows to close in one call
--       2  hint_ms  how long a Celery message counts as on its way
--       3  name     of this call
-- Returns {closed, expired, hint, next_due_ms, now_ms, sealed}; next_due_ms is 0 when nothing is
-- due later. The reason of a window that closes here is in its record. An attempt whose lease ran
-- out does not count.
local now = now_of(KEYS[1])
local limit = tonumber(ARGV[1])

local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, limit)
for _, id in ipairs(due) do
  local record = redis.call('HGET', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
  if record then
    redis.call('HDEL', KEYS[2], id)
    redis.call('HSET', KEYS[4], id, closed_value('due', now, record))
    redis.call('ZADD', KEYS[5], now, id)
  end
end

local expired = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', now, 'LIMIT', 0, limit)
for _, id in ipairs(expired) do
  redis.call('ZREM', KEYS[6], id)
  redis.call('ZADD', KEYS[5], now, id)
  if redis.call('HEXISTS', KEYS[4], id) == 1 then
    redis.call('HINCRBY', KEYS[9], id, 1)
    if redis.call('HEXISTS', KEYS[8], id) == 1 then
      excuse(KEYS[8], id)
    end
  end
end

local ready = claimable(KEYS[5], now)
local hint, hint_until = promise(KEYS[1], ARGV[3], ready, now, ARGV[2])

local keys = {deadlines = KEYS[3], ready = KEYS[5], sealed = KEYS[7], leases = KEYS[6]}
local next_due_ms = next_due(now, keys, ready > 0 and hint_until + 1 or nil)
return {#due, #expired, hint, next_due_ms, now, redis.call('ZCARD', KEYS[7])}

#!lua flags=allow-oom
-- What beat does for a partition: close open windows by time, take windows back whose lease ran
-- out, and say what is left to do.
--
-- KEYS  1 meta  2 open  3 deadlines  4 closed  5 ready  6 leases  7 sealed  8 attempts  9 deaths
-- ARGV  1 limit     most windows to close in one call
--       2 hint_ms   how long a Celery message counts as on its way
--       3 name      of this call
--       4 change of the tries of a window whose lease ran out: that is not held against it
-- Returns {closed, expired, hint, next_due_ms, now_ms, sealed}; next_due_ms is 0 when nothing is
-- due later. The reason of a window that closes here is in its record.
local POLL_SEALED_MS = 500
local now = now_of(KEYS[1])
local limit = tonumber(ARGV[1])

local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, limit)
for _, id in ipairs(due) do
  local record = redis.call('HGET', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
  if record then
    redis.call('HDEL', KEYS[2], id)
    redis.call('HSET', KEYS[4], id, 'due ' .. now .. ' ' .. record)
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
      redis.call('HINCRBY', KEYS[8], id, ARGV[4])
    end
  end
end

local ready = redis.call('ZCOUNT', KEYS[5], '-inf', now)
local sealed = redis.call('ZCARD', KEYS[7])
local hint, hint_until = promise(KEYS[1], ARGV[3], ready, now, ARGV[2])

local next_due = 0
local function sooner(ms)
  if ms and (next_due == 0 or ms < next_due) then
    next_due = math.floor(ms)
  end
end
sooner(tonumber(redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]))
sooner(tonumber(redis.call('ZRANGE', KEYS[6], 0, 0, 'WITHSCORES')[2]))
sooner(tonumber(redis.call('ZRANGEBYSCORE', KEYS[5], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]))
if ready > 0 then sooner(hint_until + 1) end
if sealed > 0 then sooner(now + POLL_SEALED_MS) end
return {#due, #expired, hint, next_due, now, sealed}

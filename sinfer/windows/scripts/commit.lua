#!lua
-- Apply a plan: all of one batch, or nothing. Not flagged allow-oom, so a full Redis refuses it
-- before anything is written. Every key is read before the first write, so that one of a wrong
-- type is refused likewise.
--
-- KEYS  1 meta  2 open  3 deadlines  4 closed  5 ready  6 sealed  7 refs  8 held  9 dead
--       10..    the segments appended to, in order of the appends; then, for each of the changed
--               refs, the segment and its set of given up messages
-- ARGV  token, batch (names this batch), commits (so far), lease_ms, hint_ms,
--       then lists, each with its length in front:
--       meta     field, value          set (the position and watermark among them)
--       counts   field, change         added up
--       required window id             must be open still
--       appends  segment, chunk, messages (0 where the segment is not shared)
--       removed  window id
--       puts     window id, record, deadline_ms (0: none), new (0 or 1)
--       closed   window id, reason, record, end_ms (sealed until the task's watermark gets there;
--                empty: ready at once)
--       refs     segment, change       a segment that nobody holds any more is deleted
--       dead     dead letter
-- Returns {'ok', now_ms, pending, hint, next_due_ms, sealed}: pending counts the windows that are
--           closed and not done, hint those that no Celery message has been promised for,
--           next_due_ms is 0 when beat has nothing to do here
--         {'applied', now_ms, ...} likewise, when this very batch had been applied before
--         {'conflict', now_ms, window ids...} when windows are not open any more
--         {'early', now_ms} when a new window's deadline is long past: the planner's clock is slow
--         {'stale'} when the token is not the current one
--         {'position', commits} when the batch does not follow the last one
local SLOW_CLOCK_MS = 1000
local POLL_SEALED_MS = 500
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call('HMGET', KEYS[1], 'token', 'commits', 'batch', 'hinted', 'hint_until')
local at = 5

local function take(width)
  local n = tonumber(ARGV[at + 1]) * width
  local first = at + 2
  at = at + 1 + n
  return first, at
end

local function summary(status, hinted)
  local ready = redis.call('ZCOUNT', KEYS[5], '-inf', now)
  local sealed = redis.call('ZCARD', KEYS[6])
  local hint = 0
  if ready > hinted then
    hint = ready - hinted
    redis.call('HSET', KEYS[1], 'hinted', ready, 'hint_until', now + ARGV[5])
  end
  local next_due = 0
  local function sooner(ms)
    if ms and (next_due == 0 or ms < next_due) then
      next_due = math.floor(ms)
    end
  end
  sooner(tonumber(redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]))
  sooner(tonumber(redis.call('ZRANGEBYSCORE', KEYS[5], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]))
  if ready > 0 then sooner(now + ARGV[5]) end
  if sealed > 0 then sooner(now + POLL_SEALED_MS) end
  return {status, now, redis.call('HLEN', KEYS[4]), hint, next_due, sealed}
end

if meta[1] ~= ARGV[1] then
  return {'stale'}
end
local commits = tonumber(meta[2] or '0')
if commits == ARGV[3] + 1 and meta[3] == ARGV[2] then
  return summary('applied', 0)
end
if commits ~= tonumber(ARGV[3]) then
  return {'position', commits}
end

local meta_first, meta_last = take(2)
local counts_first, counts_last = take(2)
local required_first, required_last = take(1)
local appends_first, appends_last = take(3)
local removed_first, removed_last = take(1)
local puts_first, puts_last = take(4)
local closed_first, closed_last = take(4)
local refs_first, refs_last = take(2)
local dead_first, dead_last = take(1)

redis.call('HLEN', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('ZCARD', KEYS[5])
redis.call('ZCARD', KEYS[6])
redis.call('HLEN', KEYS[7])
redis.call('HLEN', KEYS[8])
redis.call('XLEN', KEYS[9])
local gone = {'conflict', now}
for i = required_first, required_last do
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then
    gone[#gone + 1] = ARGV[i]
  end
end
if #gone > 2 then
  return gone
end
for i = puts_first, puts_last, 4 do
  local deadline = tonumber(ARGV[i + 2])
  if ARGV[i + 3] == '1' and deadline > 0 and deadline + SLOW_CLOCK_MS <= now then
    return {'early', now}
  end
end

redis.call('HSET', KEYS[1], 'commits', commits + 1, 'batch', ARGV[2], 'lease_until', now + ARGV[4])
for i = meta_first, meta_last, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
for i = counts_first, counts_last, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
end
local key = 10
for i = appends_first, appends_last, 3 do
  redis.call('RPUSH', KEYS[key], ARGV[i + 1])
  if ARGV[i + 2] ~= '0' then
    redis.call('HINCRBY', KEYS[8], ARGV[i], ARGV[i + 2])
  end
  key = key + 1
end
for i = removed_first, removed_last do
  redis.call('HDEL', KEYS[2], ARGV[i])
  redis.call('ZREM', KEYS[3], ARGV[i])
end
for i = puts_first, puts_last, 4 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  if ARGV[i + 2] ~= '0' then
    redis.call('ZADD', KEYS[3], ARGV[i + 2], ARGV[i])
  end
end
for i = closed_first, closed_last, 4 do
  redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1] .. ' ' .. now .. ' ' .. ARGV[i + 2])
  if ARGV[i + 3] == '' then
    redis.call('ZADD', KEYS[5], now, ARGV[i])
  else
    redis.call('ZADD', KEYS[6], ARGV[i + 3], ARGV[i])
  end
end
for i = refs_first, refs_last, 2 do
  if redis.call('HINCRBY', KEYS[7], ARGV[i], ARGV[i + 1]) <= 0 then
    -- As in complete.lua: what was not given up has been through every one of its windows.
    local messages = tonumber(redis.call('HGET', KEYS[8], ARGV[i]) or '0')
    local given_up = redis.call('SCARD', KEYS[key + 1])
    redis.call('HDEL', KEYS[7], ARGV[i])
    redis.call('HDEL', KEYS[8], ARGV[i])
    redis.call('UNLINK', KEYS[key], KEYS[key + 1])
    redis.call('HINCRBY', KEYS[1], 'sunk', messages - given_up)
    redis.call('HINCRBY', KEYS[1], 'dead', given_up)
  end
  key = key + 2
end
for i = dead_first, dead_last do
  redis.call('XADD', KEYS[9], '*', 'letter', ARGV[i])
end
local hinted = tonumber(meta[4] or '0')
if tonumber(meta[5] or '0') < now then
  hinted = 0
end
return summary('ok', hinted)

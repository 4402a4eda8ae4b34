#!lua
-- Apply a plan: all of one batch, or nothing. Not flagged allow-oom, so a full Redis refuses it
-- before anything is written.
--
-- KEYS  1 meta  2 open  3 deadlines  4 closed  5 ready  6 leases  7 refs  8 dead
--       9..     the segments appended to, in order of the appends; then those of the changed refs
-- ARGV  token, commits (so far), lease_ms, hint_ms, then lists, each with its length in front:
--       meta     field, value          set (the position and watermark among them)
--       counts   field, change         added up
--       required window id             must be open still
--       appends  chunk                 onto the segment of the same place
--       removed  window id
--       puts     window id, record, deadline_ms (0: none), new (0 or 1)
--       closed   window id, reason, record
--       refs     segment, change       a segment that nobody holds any more is deleted
--       dead     dead letter
-- Returns {'ok', now_ms, pending, hint, next_due_ms}: pending counts closed and leased windows,
--           hint the windows that no Celery message has been promised for, next_due_ms is 0
--           when beat has nothing to do here
--         {'applied', now_ms, ...} likewise, when this very batch had been applied before
--         {'conflict', now_ms, window ids...} when windows are not open any more
--         {'early', now_ms} when a new window's deadline has passed
--         {'stale'} when the token is not the current one
--         {'position', commits} when the batch does not follow the last one
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call('HMGET', KEYS[1], 'token', 'commits', 'hinted', 'hint_until')
local at = 4

local function take(width)
  local n = tonumber(ARGV[at + 1]) * width
  local first = at + 2
  at = at + 1 + n
  return first, at
end

local function summary(status)
  local ready = redis.call('ZCARD', KEYS[5])
  local hinted = tonumber(meta[3] or '0')
  if tonumber(meta[4] or '0') < now then
    hinted = 0
  end
  local hint = 0
  if ready > hinted then
    hint = ready - hinted
    redis.call('HSET', KEYS[1], 'hinted', ready, 'hint_until', now + ARGV[4])
  end
  local next_due = 0
  local function sooner(entry)
    if entry[2] and (next_due == 0 or tonumber(entry[2]) < next_due) then
      next_due = math.floor(tonumber(entry[2]))
    end
  end
  sooner(redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES'))
  if ready > 0 then
    sooner({'', now + ARGV[4]})
  end
  return {status, now, ready + redis.call('ZCARD', KEYS[6]), hint, next_due}
end

if meta[1] ~= ARGV[1] then
  return {'stale'}
end
local commits = tonumber(meta[2] or '0')
if commits == ARGV[2] + 1 then
  return summary('applied')
end
if commits ~= tonumber(ARGV[2]) then
  return {'position', commits}
end

local meta_first, meta_last = take(2)
local counts_first, counts_last = take(2)
local required_first, required_last = take(1)
local appends_first, appends_last = take(1)
local removed_first, removed_last = take(1)
local puts_first, puts_last = take(4)
local closed_first, closed_last = take(3)
local refs_first, refs_last = take(2)
local dead_first, dead_last = take(1)

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
  if ARGV[i + 3] == '1' and deadline > 0 and deadline <= now then
    return {'early', now}
  end
end

redis.call('HSET', KEYS[1], 'commits', commits + 1, 'lease_until', now + ARGV[3])
for i = meta_first, meta_last, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
for i = counts_first, counts_last, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
end
local segment = 9
for i = appends_first, appends_last do
  redis.call('RPUSH', KEYS[segment], ARGV[i])
  segment = segment + 1
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
for i = closed_first, closed_last, 3 do
  redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1] .. ' ' .. now .. ' ' .. ARGV[i + 2])
  redis.call('ZADD', KEYS[5], now, ARGV[i])
end
for i = refs_first, refs_last, 2 do
  if redis.call('HINCRBY', KEYS[7], ARGV[i], ARGV[i + 1]) <= 0 then
    redis.call('HDEL', KEYS[7], ARGV[i])
    redis.call('UNLINK', KEYS[segment])
  end
  segment = segment + 1
end
for i = dead_first, dead_last do
  redis.call('XADD', KEYS[8], '*', 'letter', ARGV[i])
end
return summary('ok')

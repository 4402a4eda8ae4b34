#!lua
-- Apply a plan: all of one batch, or nothing. Not flagged allow-oom, so a full Redis refuses it
-- before anything is written. Every key is read before the first write, so that one of a wrong
-- type is refused likewise.
--
-- KEYS  1 meta  2 open  3 deadlines  4 closed  5 ready  6 sealed  7 refs  8 held  9 dead
--       10..    the segments appended to, in order of the appends; then, for each ref that goes
--               down, the segment and its set of given up messages
-- ARGV  token, batch (names this batch), commits (so far), lease_ms, hint_ms,
--       earliest (least deadline of a new window, ms; 0: none),
--       then lists, each with the number of its words in front:
--       meta      field, value         set (the position and watermark among them)
--       counts    field, change        added up
--       required  window id            must be open still
--       appends   segment, chunk, messages (0 where the segment is not shared)
--       removed   window id            open no more
--       puts      window id, record    open
--       deadlines deadline_ms, window id
--       closed    window id, reason, record
--       sealed    end_ms, window id    those of the closed that wait for the task's watermark
--       refs      segment, change      a segment that nobody holds any more is deleted
--       dead      dead letter
-- Returns {'ok', now_ms, pending, hint, next_due_ms, sealed}: pending counts the windows that are
--           closed and not done, hint those that no Celery message has been promised for,
--           next_due_ms is 0 when beat has nothing to do here
--         {'applied', now_ms, ...} likewise, when this very batch had been applied before; the lease
--           is renewed all the same
--         {'conflict', now_ms, window ids...} when windows are not open any more
--         {'early', now_ms} when a new window's deadline is long past: the planner's clock is slow
--         {'stale'} when the token is not the current one
--         {'position', commits} when the batch does not follow the last one
local SLOW_CLOCK_MS = 1000
local POLL_SEALED_MS = 500
local now = now_of(KEYS[1])
local meta = redis.call('HMGET', KEYS[1], 'token', 'commits', 'batch')
local at = 6
local PORTION = 500 -- words of a list in one command: unpack fails near 8,000

local function take()
  local first = at + 2
  at = at + 1 + ARGV[at + 1]
  return first, at
end

local function write(command, key, words, first, last)
  for i = first, last, PORTION do
    redis.call(command, key, unpack(words, i, math.min(i + PORTION - 1, last)))
  end
end

local function summary(status)
  local ready = redis.call('ZCOUNT', KEYS[5], '-inf', now)
  local sealed = redis.call('ZCARD', KEYS[6])
  local hint = promise(KEYS[1], ARGV[2], ready, now, ARGV[5])
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
  redis.call('HSET', KEYS[1], 'lease_until', now + ARGV[4])
  return summary('applied')
end
if commits ~= tonumber(ARGV[3]) then
  return {'position', commits}
end

local meta_first, meta_last = take()
local counts_first, counts_last = take()
local required_first, required_last = take()
local appends_first, appends_last = take()
local removed_first, removed_last = take()
local puts_first, puts_last = take()
local deadlines_first, deadlines_last = take()
local closed_first, closed_last = take()
local sealed_first, sealed_last = take()
local refs_first, refs_last = take()
local dead_first, dead_last = take()

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
local earliest = tonumber(ARGV[6])
if earliest > 0 and earliest + SLOW_CLOCK_MS <= now then
  return {'early', now}
end

redis.call('HSET', KEYS[1], 'commits', commits + 1, 'batch', ARGV[2], 'lease_until', now + ARGV[4])
write('HSET', KEYS[1], ARGV, meta_first, meta_last)
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
write('HDEL', KEYS[2], ARGV, removed_first, removed_last)
write('ZREM', KEYS[3], ARGV, removed_first, removed_last)
write('HSET', KEYS[2], ARGV, puts_first, puts_last)
write('ZADD', KEYS[3], ARGV, deadlines_first, deadlines_last)
local values, ready = {}, {}
for i = closed_first, closed_last, 3 do
  local n = #values
  values[n + 1], values[n + 2] = ARGV[i], ARGV[i + 1] .. ' ' .. now .. ' ' .. ARGV[i + 2]
  ready[n + 1], ready[n + 2] = now, ARGV[i]
end
write('HSET', KEYS[4], values, 1, #values)
write('ZADD', KEYS[5], ready, 1, #ready)
for i = sealed_first, sealed_last, 2 do
  redis.call('ZREM', KEYS[5], ARGV[i + 1])
end
write('ZADD', KEYS[6], ARGV, sealed_first, sealed_last)
for i = refs_first, refs_last, 2 do
  local holders = redis.call('HINCRBY', KEYS[7], ARGV[i], ARGV[i + 1])
  if string.sub(ARGV[i + 1], 1, 1) == '-' then
    if holders <= 0 then
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
end
for i = dead_first, dead_last do
  add_entry(KEYS[9], now, {}, 'letter', ARGV[i])
end
return summary('ok')

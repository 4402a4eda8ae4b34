#!lua
-- Apply a plan: all of one batch, or nothing. Not flagged allow-oom, so a full Redis refuses it
-- before anything is written. Every key is read before the first write, so that one of a wrong
-- type is refused likewise.
--
-- KEYS  1     meta       hash
--       2     open       hash
--       3     deadlines  zset
--       4     closed     hash
--       5     ready      zset
--       6     sealed     zset
--       7     refs       hash
--       8     held       hash
--       9     dead       stream
--       10    members    hash
--       11    aside      hash
--       12    unfinished  zset
--       13..  for each append: its segment, list; then for each ref that goes down: the segment, list,
--             and the set of its messages that were given up
-- ARGV  1  token     the fencing token of the writer's lease
--       2  batch     names this batch
--       3  commits   so far
--       4  lease_ms  how long the lease lasts from now
--       5  hint_ms   how long a Celery message counts as on its way
--       6  earliest  least deadline of a new window (ms); 0: none
--       7..  thirteen lists, each with the number of its words in front:
--            meta       field, value         set (the position and watermark among them)
--            counts     field, change        added up
--            required   window id            must be open still
--            appends    segment, chunk, messages (0 where the segment is not shared), place of the
--                       chunk in the segment (from 1; 0: wherever it comes), its members as
--                       members.py says
--            removed    window id            open no more
--            puts       window id, record    open
--            deadlines  deadline_ms, window id
--            closed     window id, reason, first_ms, record; they are claimed in the order of
--                       first_ms, when their first items arrived, so that those whose results are
--                       due earliest come first; where that is 0, in the order in which they close
--            sealed     end_ms, window id    those of the closed that wait for the task's watermark
--            refs       change, whether they are new (0 or 1), how many, and so many segments, for
--                       each such group; a segment that nobody holds any more is deleted
--            dead       dead letter
--            gone       window id            neither open nor closed any more
--            first      first_seq, window id the least stream sequence of windows that opened or
--                       closed, or that has become less; where anybody wants to know
-- Returns {'ok', now_ms, pending, hint, next_due_ms, sealed, lost}: pending counts the windows that
--           are closed, not done and not set aside, lost the chunks that were found to be gone from
--           segments of open windows, hint those that no Celery message has been promised for,
--           next_due_ms is 0 when beat has nothing to do here
--         {'applied', now_ms, ...} likewise, when this very batch had been applied before; the lease
--           is renewed all the same
--         {'conflict', now_ms, window ids...} when windows are not open any more
--         {'early', now_ms} when a new window's deadline is long past: the planner's clock is slow
--         {'stale'} when the token is not the current one
--         {'position', commits} when the batch does not follow the last one
local SLOW_CLOCK_MS = 1000
local now = now_of(KEYS[1])
local meta = redis.call('HMGET', KEYS[1], 'token', 'commits', 'batch')
local at = 6
local keys = {
  meta = KEYS[1], deadlines = KEYS[3], ready = KEYS[5], sealed = KEYS[6], refs = KEYS[7], held = KEYS[8],
  members = KEYS[10],
}

local function take()
  local first = at + 2
  at = at + 1 + ARGV[at + 1]
  return first, at
end

-- How many chunks segments have, by their keys, and what is known of their members, by field.
local lengths, members = {}, {}

-- The record that knew of these chunks is gone.
local function begin_again(key, segment)
  redis.call('DEL', key)
  forget_members(keys.members, segment)
  lengths[key] = 0
  for field in pairs(members) do
    if field == segment or string.sub(field, 1, #segment + 1) == segment .. '#' then
      members[field] = ''
    end
  end
end

-- A chunk takes its place, whatever became of those before it: empty ones stand for those that are
-- gone. Returns how many these are.
local function append(key, segment, chunk, place, entry)
  local lost = 0
  if place > 0 then
    if lengths[key] >= place then
      begin_again(key, segment)
    end
    for _ = lengths[key] + 1, place - 1 do
      redis.call('RPUSH', key, '')
      lost = lost + 1
    end
    local field = members_field(segment, place)
    members[field] = members[field] .. entry
    lengths[key] = place
  end
  redis.call('RPUSH', key, chunk)
  return lost
end

-- Change by how many more windows some segments are held, and free those that nobody holds any more.
--
-- Where the number of a segment's holders is gone (-1: some have let go since), it stays so until it
-- was counted again.
--   key          place in KEYS of the first of them, where fewer hold them
--   first, last  their places in ARGV
local function change_holders(change, is_new, key, first, last)
  for from = first, last, PORTION / 2 do
    local to = math.min(from + PORTION / 2 - 1, last)
    local numbers, size, free = {}, 0, {}
    for n, held in ipairs(redis.call('HMGET', KEYS[7], unpack(ARGV, from, to))) do
      local segment, before, number = ARGV[from + n - 1], tonumber(held or '-1') or -1, nil
      if is_new or before > 0 then
        number = math.max(before, 0) + change
      elseif change < 0 then
        number = -1
      end
      if number == 0 or (number and number < 0 and before > 0) then
        local at = key + 2 * (from + n - 1 - first)
        free[#free + 1] = {segment, KEYS[at], KEYS[at + 1]}
      elseif number then
        numbers[size + 1], numbers[size + 2] = segment, number
        size = size + 2
      end
    end
    tell_all('HSET', KEYS[7], numbers)
    for _, segment in ipairs(free) do
      free_segment(keys, unpack(segment))
    end
  end
end

-- How many messages shared segments have more than before.
local function grow(grown)
  local names, sizes = {}, {}
  for segment in pairs(grown) do
    names[#names + 1] = segment
  end
  for n, size in ipairs(ask_of_all('HMGET', KEYS[8], names)) do
    sizes[#sizes + 1], sizes[#sizes + 2] = names[n], (tonumber(size or '0') or 0) + grown[names[n]]
  end
  tell_all('HSET', KEYS[8], sizes)
end

local lost = 0

local function summary(status)
  local ready = claimable(keys.ready, now)
  local hint, hint_until = promise(keys.meta, ARGV[2], ready, now, ARGV[5])
  local due = next_due(now, keys, ready > 0 and hint_until + 1 or nil)
  local pending = math.max(0, redis.call('HLEN', KEYS[4]) - redis.call('HLEN', KEYS[11]))
  return {status, now, pending, hint, due, redis.call('ZCARD', keys.sealed), lost}
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
local gone_first, gone_last = take()
local seqs_first, seqs_last = take()

redis.call('HLEN', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('ZCARD', KEYS[5])
redis.call('ZCARD', KEYS[6])
redis.call('HLEN', KEYS[7])
redis.call('HLEN', KEYS[8])
redis.call('XLEN', KEYS[9])
redis.call('HLEN', KEYS[10])
redis.call('HLEN', KEYS[11])
redis.call('ZCARD', KEYS[12])
local segments, fields = (appends_last - appends_first + 1) / 5, {}
for i = 1, segments do
  lengths[KEYS[12 + i]] = redis.call('LLEN', KEYS[12 + i])
  local segment, place = ARGV[appends_first + 5 * i - 5], tonumber(ARGV[appends_first + 5 * i - 2])
  if place > 0 then
    fields[#fields + 1] = members_field(segment, place)
  end
end
for n, value in ipairs(ask_of_all('HMGET', KEYS[10], fields)) do
  members[fields[n]] = value or ''
end
for i = 14 + segments, #KEYS, 2 do
  redis.call('SCARD', KEYS[i])
end
for i = counts_first, counts_last, 2 do
  local count = redis.call('HGET', KEYS[1], ARGV[i])
  if count and not tonumber(count) then
    return redis.error_reply('ERR field ' .. ARGV[i] .. ' of ' .. KEYS[1] .. ' is no number')
  end
end
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
tell('HSET', KEYS[1], ARGV, meta_first, meta_last)
for i = counts_first, counts_last, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
end
local key, grown = 13, {}
for i = appends_first, appends_last, 5 do
  lost = lost + append(KEYS[key], ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 3]), ARGV[i + 4])
  if ARGV[i + 2] ~= '0' then
    grown[ARGV[i]] = (grown[ARGV[i]] or 0) + ARGV[i + 2]
  end
  key = key + 1
end
grow(grown)
local entries = {}
for field, value in pairs(members) do
  entries[#entries + 1] = field
  entries[#entries + 1] = value
end
tell_all('HSET', KEYS[10], entries)
tell('HDEL', KEYS[2], ARGV, removed_first, removed_last)
tell('ZREM', KEYS[3], ARGV, removed_first, removed_last)
tell('HSET', KEYS[2], ARGV, puts_first, puts_last)
tell('ZADD', KEYS[3], ARGV, deadlines_first, deadlines_last)
local values, ready = {}, {}
for i = closed_first, closed_last, 4 do
  local n, first = #values, tonumber(ARGV[i + 2])
  values[n + 1], values[n + 2] = ARGV[i], closed_value(ARGV[i + 1], now, ARGV[i + 3])
  ready[n + 1], ready[n + 2] = first > 0 and math.min(now, first) or now, ARGV[i]
end
tell_all('HSET', KEYS[4], values)
tell_all('ZADD', KEYS[5], ready)
for i = sealed_first, sealed_last, 2 do
  redis.call('ZREM', KEYS[5], ARGV[i + 1])
end
tell('ZADD', KEYS[6], ARGV, sealed_first, sealed_last)
local at_refs = refs_first
while at_refs <= refs_last do
  local change, first = tonumber(ARGV[at_refs]), at_refs + 3
  local last = first + ARGV[at_refs + 2] - 1
  change_holders(change, ARGV[at_refs + 1] == '1', key, first, last)
  key = change < 0 and key + 2 * (last - first + 1) or key
  at_refs = last + 1
end
tell('ZREM', KEYS[12], ARGV, gone_first, gone_last)
tell('ZADD', KEYS[12], ARGV, seqs_first, seqs_last)
for i = dead_first, dead_last do
  add_entry(KEYS[9], now, {}, 'letter', ARGV[i])
end
return summary('ok')

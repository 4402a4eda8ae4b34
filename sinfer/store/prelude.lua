-- What scripts share: the format of a partition, the time, hints, what is due, tokens and segments.
-- It is put in front of each script when it is loaded.

-- ===== Format =====

local FORMAT = FORMAT_VERSION -- as in format.py

-- End the script, before it has done anything, where a newer version has written a partition.
--   key    meta of the partition
--   noted  the format that is noted there; see format.py
local function check_format(key, noted)
  if tonumber(noted or '1') > FORMAT then
    error(redis.error_reply('NEWERFORMAT ' .. noted .. ' ' .. key))
  end
end

-- ===== Time =====
--
-- The time of the store never goes back, and it never stands still. Redis' TIME does go back: after
-- a failover, with a restored machine, when someone sets the clock. So each group of keys that lives
-- in one slot notes, in two fields of a hash, the highest time that was told there and, where TIME
-- fell behind it, from where it goes on:
--
--   time       the highest time told (ms)
--   time_from  'TIME then, time told then' (ms); only while the time told is ahead of TIME
--
-- While it is ahead, seven of its seconds take eight of TIME's, until the two agree again. When TIME
-- moves by more than a minute there between two looks, it was most likely set right: that counts for
-- five seconds. No time of one group is compared with that of another: what crosses over is a
-- duration.

-- A number as the store keeps it: all of its digits, and none behind the point.
local function whole(number)
  return string.format('%.0f', number)
end

-- The time of a group of keys (ms). Where the group is a partition that a newer version has written,
-- this ends the script: each that works on a partition begins with it, or with check_format.
--   key   the hash of the group
--   make  note it even where the hash does not exist yet
local function now_of(key, make)
  local time = redis.call('TIME')
  local clock = time[1] * 1000 + math.floor(time[2] / 1000)
  local kept = redis.call('HMGET', key, 'time', 'time_from', 'format')
  check_format(key, kept[3])
  local highest = tonumber(kept[1] or '')
  if not highest then
    if make or redis.call('EXISTS', key) == 1 then
      redis.call('HSET', key, 'time', whole(clock))
    end
    return clock
  end
  local now, passed = clock, 0
  local from, told = string.match(kept[2] or '', '^(%d+) (%d+)$')
  if from and clock > tonumber(from) then
    passed = clock - from
    local counts = passed > 60000 and 5000 or passed
    now = math.max(clock, told + math.floor(counts * 7 / 8))
  end
  local goes_on = now >= highest and passed <= 30000
  now = math.max(now, highest)
  if now > highest then
    redis.call('HSET', key, 'time', whole(now))
  end
  if now == clock then
    if kept[2] then
      redis.call('HDEL', key, 'time_from')
    end
  elseif not goes_on then
    redis.call('HSET', key, 'time_from', whole(clock) .. ' ' .. whole(now))
  end
  return now
end

-- Add an entry to a stream under the time of its group. An entry from before the group had a time
-- may be ahead of that; then Redis chooses.
--   options  words between the key and the id
local function add_entry(key, now, options, field, value)
  local words = {}
  for _, word in ipairs(options) do
    words[#words + 1] = word
  end
  local place = #words + 1
  words[place], words[place + 1], words[place + 2] = whole(now) .. '-*', field, value
  local answer = redis.pcall('XADD', key, unpack(words))
  if type(answer) == 'table' and answer.err then
    words[place] = '*'
    redis.call('XADD', key, unpack(words))
  end
end

-- The time of an endpoint (ms), which is kept for a day after it was last asked for.
--   key  its clock
local function endpoint_time(key)
  local now = now_of(key, true)
  redis.call('PEXPIRE', key, 86400000)
  return now
end

-- ===== Many words =====

local PORTION = 500 -- words of a list in one command: unpack fails near 8,000

-- One command with all words from one place of a list to another, in as few portions as it takes.
--   key  of the command; nil for one that has only the words
local function tell(command, key, words, first, last)
  for i = first, last, PORTION do
    local to = math.min(i + PORTION - 1, last)
    if key then
      redis.call(command, key, unpack(words, i, to))
    else
      redis.call(command, unpack(words, i, to))
    end
  end
end

-- As tell, with all words of a list.
local function tell_all(command, key, words)
  tell(command, key, words, 1, #words)
end

-- The answers of a command that has one for each word, in a list.
local function ask_of_all(command, key, words)
  if #words <= PORTION then
    return #words == 0 and {} or redis.call(command, key, unpack(words))
  end
  local found = {}
  for i = 1, #words, PORTION do
    for n, answer in ipairs(redis.call(command, key, unpack(words, i, math.min(i + PORTION - 1, #words)))) do
      found[i + n - 1] = answer
    end
  end
  return found
end

-- ===== Tokens and leases =====

-- The fencing token after the highest that was given. Tokens follow the clock, so that none comes
-- twice, not even when Redis was wiped or has lost its last second.
local function next_token(highest, now)
  return math.max((tonumber(highest or '') or 0) + 1, now)
end

-- Whether a worker holds a window: under its token, with a lease that was not taken back.
local function holds(tokens, leases, id, token)
  return redis.call('HGET', tokens, id) == token and redis.call('ZSCORE', leases, id)
end

-- End the lease of a window. Returns whether the worker of that token held it.
local function end_lease(tokens, leases, id, token)
  return redis.call('HGET', tokens, id) == token and redis.call('ZREM', leases, id) == 1
end

-- ===== Attempts =====
--
-- How often a window was tried: under its id the attempts that count, and under 'excused ' and its
-- id those that do not. The versions before kept both in the first number, a million times those
-- that do not and the others; that is read and counted on, see attempts.py.

-- The last attempt of a window does not count.
local function excuse(attempts, id)
  redis.call('HINCRBY', attempts, id, -1)
  redis.call('HINCRBY', attempts, 'excused ' .. id, 1)
end

-- Add to a list the fields that tell how often a window was tried.
local function add_attempts(fields, id)
  fields[#fields + 1] = id
  fields[#fields + 1] = 'excused ' .. id
end

-- ===== Windows and hints =====

-- What is kept of a closed window.
local function closed_value(reason, now, record)
  return reason .. ' ' .. whole(now) .. ' ' .. record
end

-- How many closed windows may be claimed now.
local function claimable(ready, now)
  return redis.call('ZCOUNT', ready, '-inf', now)
end

-- Worker processes that wait for windows of a partition, the longest waiting first, are in the field
-- waiters of its meta: 'channel until (ms) channel until ...'.
local MOST_WAITERS = 32

-- Have a process wait until a time (ms); who waited already is last again.
local function add_waiter(key, channel, until_ms)
  local waiters = {}
  for other, its_until in string.gmatch(redis.call('HGET', key, 'waiters') or '', '(%S+) (%d+)') do
    if other ~= channel then
      waiters[#waiters + 1] = other .. ' ' .. its_until
    end
  end
  waiters[#waiters + 1] = channel .. ' ' .. whole(until_ms)
  local first = math.max(1, #waiters - MOST_WAITERS + 1)
  redis.call('HSET', key, 'waiters', table.concat(waiters, ' ', first))
end

-- Wake one of the processes that wait. Its wait is over; so is that of those who do not listen.
--   key      meta of the partition
--   waiters  its field
-- Returns whether one listens.
local function wake(key, waiters, windows, now)
  local partition = string.match(key, '{(.*)}')
  local is_heard, rest = false, waiters or ''
  while not is_heard and rest ~= '' do
    local channel, until_ms, others = string.match(rest, '^(%S+) (%d+) ?(.*)$')
    rest = others or ''
    if channel and tonumber(until_ms) >= now then
      -- A user that may not publish is no reason to fail: then there are messages.
      local heard = redis.pcall('PUBLISH', channel, windows .. ' ' .. partition)
      is_heard = type(heard) == 'number' and heard > 0
    end
  end
  if rest ~= (waiters or '') then
    redis.call('HSET', key, 'waiters', rest)
  end
  return is_heard
end

-- Promise that somebody hears of the ready windows that nobody was told of: a worker process that
-- waits for them is woken, or else Celery messages are to be sent.
--   name  of this call: asked again under it, as by a client that got no answer, it promises the same
-- Returns how many windows messages are to be sent for, and until when those that were count (ms).
local WAKE_MS = 1000 -- so long it counts that a process was woken: it may hang in a hook, or be frozen
local BACKLOG = 16 -- windows of one claim, as in worker/claim_loop.py
local function promise(key, name, ready, now, hint_ms)
  local kept = redis.call('HMGET', key, 'hinted', 'hint_until', 'hint_name', 'hint', 'waiters')
  local hinted, until_ms = tonumber(kept[1] or '0'), tonumber(kept[2] or '0')
  if kept[3] == name then
    return tonumber(kept[4] or '0'), until_ms
  end
  if until_ms < now then
    hinted = 0
  end
  -- A backlog that grows is known of: whoever is at work on it tells others, or claims on.
  local known = hinted >= BACKLOG and math.floor(hinted * 1.5) or hinted
  if ready <= known then
    return 0, until_ms
  end
  local is_heard = wake(key, kept[5], ready - hinted, now)
  local hint = is_heard and 0 or ready - hinted
  until_ms = now + (is_heard and WAKE_MS or hint_ms)
  redis.call('HSET', key, 'hinted', ready, 'hint_until', whole(until_ms),
    'hint_name', name, 'hint', hint)
  return hint, until_ms
end

-- Whether messages were promised under this name.
local function was_promised(key, name)
  return redis.call('HGET', key, 'hint_name') == name
end

-- A message arrived that was promised for so many windows.
local function redeem(key, windows)
  local hinted = redis.call('HGET', key, 'hinted')
  if hinted and windows ~= '0' then
    redis.call('HSET', key, 'hinted', math.max(0, hinted - windows))
  end
end

-- From a time on (ms), promises do not count any more.
local function let_promises_lapse(key, due)
  redis.call('HSET', key, 'hint_until', whole(due - 1))
  redis.call('HDEL', key, 'hint_name')
end

-- When beat has to look at a partition next (ms); 0 when it has nothing to do here.
--   keys    of the partition: deadlines, ready, sealed; leases where it takes these back as well
--   hinted  until when the messages that are on their way count, where windows may be claimed now
local POLL_SEALED_MS = 500 -- what holds sealed windows back is in other slots
local function next_due(now, keys, hinted)
  local due = 0
  local function sooner(ms)
    if ms and (due == 0 or ms < due) then
      due = math.floor(ms)
    end
  end
  local later = {'(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1}
  sooner(tonumber(redis.call('ZRANGE', keys.deadlines, 0, 0, 'WITHSCORES')[2]))
  sooner(tonumber(redis.call('ZRANGEBYSCORE', keys.ready, unpack(later))[2]))
  if keys.leases then
    sooner(tonumber(redis.call('ZRANGE', keys.leases, 0, 0, 'WITHSCORES')[2]))
  end
  sooner(hinted)
  if redis.call('ZCARD', keys.sealed) > 0 then
    sooner(now + POLL_SEALED_MS)
  end
  return due
end

-- ===== Segments =====

local CHUNKS_IN_FIELD = 256 -- as in members.py

-- The field of members that tells of the chunk at a place of a segment (from 1).
local function members_field(segment, place)
  local block = math.floor((place - 1) / CHUNKS_IN_FIELD)
  return block == 0 and segment or segment .. '#' .. block
end

-- Forget which messages a segment should have.
local function forget_members(members, segment)
  local number = 0
  redis.call('HDEL', members, segment)
  repeat
    number = number + 1
  until redis.call('HDEL', members, segment .. '#' .. number) == 0
end

-- As forget_members, for many segments; hardly any has more than one field.
local function forget_all_members(members, segments)
  local more = {}
  for n, segment in ipairs(segments) do
    more[n] = segment .. '#1'
  end
  local has_more = false
  for i = 1, #more, PORTION do
    has_more = redis.call('HDEL', members, unpack(more, i, math.min(i + PORTION - 1, #more))) > 0 or has_more
  end
  tell_all('HDEL', members, segments)
  for _, segment in ipairs(has_more and segments or {}) do
    local number = 1
    repeat
      number = number + 1
    until redis.call('HDEL', members, segment .. '#' .. number) == 0
  end
end

-- How many messages of a shared segment were given up, and how many others were filtered out, by
-- the set that has both: a message's sequence, or f and its sequence.
local function without_result(key)
  local given_up, filtered = 0, 0
  for _, member in ipairs(redis.call('SMEMBERS', key)) do
    if string.sub(member, 1, 1) ~= 'f' then
      given_up = given_up + 1
    elseif redis.call('SISMEMBER', key, string.sub(member, 2)) == 0 then
      filtered = filtered + 1
    end
  end
  return given_up, filtered
end

-- Free a shared segment that nobody holds any more, and account for its messages: what was not given
-- up has been through every one of its windows.
--   keys      of the partition: meta, refs, held, members
--   segment   its name
--   key, bad  its chunks, and the set of its messages that were given up or filtered out
local function free_segment(keys, segment, key, bad)
  local messages = tonumber(redis.call('HGET', keys.held, segment) or '0')
  local given_up, filtered = without_result(bad)
  redis.call('HDEL', keys.refs, segment)
  redis.call('HDEL', keys.held, segment)
  forget_members(keys.members, segment)
  redis.call('UNLINK', key, bad)
  redis.call('HINCRBY', keys.meta, 'sunk', messages - given_up - filtered)
  redis.call('HINCRBY', keys.meta, 'filtered', filtered)
  redis.call('HINCRBY', keys.meta, 'dead', given_up)
end

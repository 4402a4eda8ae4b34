-- What every script may call. It is put in front of each one when it is loaded.
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

-- The time of a group of keys (ms).
--   key   the hash of the group
--   make  note it even where the hash does not exist yet
local function now_of(key, make)
  local time = redis.call('TIME')
  local clock = time[1] * 1000 + math.floor(time[2] / 1000)
  local kept = redis.call('HMGET', key, 'time', 'time_from')
  local highest = tonumber(kept[1] or '')
  if not highest then
    if make or redis.call('EXISTS', key) == 1 then
      redis.call('HSET', key, 'time', string.format('%.0f', clock))
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
    redis.call('HSET', key, 'time', string.format('%.0f', now))
  end
  if now == clock then
    if kept[2] then
      redis.call('HDEL', key, 'time_from')
    end
  elseif not goes_on then
    redis.call('HSET', key, 'time_from', string.format('%.0f %.0f', clock, now))
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
  words[place], words[place + 1], words[place + 2] = string.format('%.0f-*', now), field, value
  local answer = redis.pcall('XADD', key, unpack(words))
  if type(answer) == 'table' and answer.err then
    words[place] = '*'
    redis.call('XADD', key, unpack(words))
  end
end

-- Promise Celery messages for the ready windows that none is on its way for.
--   name  of this call: asked again under it, as by a client that got no answer, it promises the same
-- Returns how many windows messages are to be sent for, and until when those that were count (ms).
local BACKLOG = 16 -- windows of one claim, as in tasks/draining.py
local function promise(key, name, ready, now, hint_ms)
  local kept = redis.call('HMGET', key, 'hinted', 'hint_until', 'hint_name', 'hint')
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
  until_ms = now + hint_ms
  redis.call('HSET', key, 'hinted', ready, 'hint_until', string.format('%.0f', until_ms),
    'hint_name', name, 'hint', ready - hinted)
  return ready - hinted, until_ms
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

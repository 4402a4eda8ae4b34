#!lua flags=allow-oom
-- Give back an endpoint's place after a call, or ask for one, and give places that are free to those
-- who wait for them.
--
-- A task has its share of the places: all of them divided by the tasks that have one or wait. Who
-- has less than its share goes first, and of those, as of the others, whose results are due
-- earliest. Where the limit is learned, it grows by one while all places are in use and calls take
-- little longer than they do with few of them, and is cut when they take longer or are refused:
-- additive increase, multiplicative decrease (Chiu and Jain, Computer Networks and ISDN Systems
-- 17(1), 1989), begun by doubling, as TCP begins (RFC 5681).
--
-- KEYS  1  clock    hash
--       2  slots    zset: holder by the time its place is free anyway (ms); a holder is
--                   'name product/task', or of earlier versions a name
--       3  waiting  hash: holder, 'due until most learns lease_ms channel'
--       4  learned  hash: limit, and what is known of the calls since it was last changed
-- ARGV  1  most      places in all at most; 0: any number
--       2  learns    1: as many as the model bears
--       3  lease_ms  how long a place is held
--       4  ended     holder whose call has ended; empty: none
--       5  took_ms   how long that took
--       6  fate      of it: ok, busy (refused for that, or no answer in time), or empty: nothing is
--                    told by it
--       7  items     that it asked about
--       8  wanted    holder that wants a place; empty: none
--       9  due_ms    from now on, when its results are due
--       10 wait_ms   how long it waits before it asks again
--       11 channel   that it listens on; empty: it asks again
-- Returns {1 when the place that is wanted is taken, limit}; the limit is 0 where there is none.
local FIRST, HIGHEST = 4, 1000 -- limits that are learned
local ENOUGH = 10 -- calls by which a limit is judged
local SLOW = 1.5 -- calls that take so many times as long as with few of them are too many
local PROBE = 64 -- every so many changes a quarter of the limit is enough, to see how long calls take
local now = endpoint_time(KEYS[1])

-- How many places there are by what is known; while it is tried how quick calls can be, a quarter.
local function granted(limit, probes)
  limit = tonumber(limit or FIRST)
  return math.max(1, math.floor((probes or '0') ~= '0' and limit / 4 or limit))
end

local learned = nil
local function limit_of(most, learns)
  local limit = most > 0 and most or math.huge
  if learns == '1' then
    if not learned then
      local kept = redis.call('HMGET', KEYS[4], 'limit', 'probes')
      learned = granted(kept[1] or nil, kept[2] or nil)
    end
    limit = math.min(limit, learned)
  end
  return limit
end

-- ----- what a call tells of the limit -----

-- Calls about more items take longer: they are compared with those about as many, by powers of two.
local function class_of(items)
  local class = 0
  while items >= 2 and class < 24 do
    items, class = items / 2, class + 1
  end
  return class
end

-- How many times as long calls took as they do with few at once. How long that is, is known from the
-- first calls, and from those since that were made to see.
local function slowness(kept, changed, is_probe)
  local took, expected = 0, 0
  for field, count in pairs(kept) do
    local class = string.match(field, '^n(%d+)$')
    if class and tonumber(count) > 0 then
      local mean = kept['ms' .. class] / count
      local base = tonumber(kept['base' .. class] or mean)
      took, expected = took + mean * count, expected + base * count
      if is_probe or not kept['base' .. class] then
        base = base + (mean - base) / 4
        changed['base' .. class] = string.format('%.3f', math.max(0.001, base))
      end
    end
  end
  return expected > 0 and took / expected or 1
end

local function learn(in_use, took_ms, fate, items)
  local kept, words = {}, redis.call('HGETALL', KEYS[4])
  for i = 1, #words, 2 do
    kept[words[i]] = words[i + 1]
  end
  local places = granted(kept.limit, kept.probes)
  local limit, since = tonumber(kept.limit or FIRST), tonumber(kept.since or now)
  local calls = tonumber(kept.calls or 0) + 1
  local full = tonumber(kept.full or 0) + (in_use >= places and 1 or 0)
  local changed = {limit = limit, since = whole(since), calls = calls, full = full}
  if fate == 'ok' then
    local class = class_of(items)
    kept['n' .. class] = (kept['n' .. class] or 0) + 1
    kept['ms' .. class] = (kept['ms' .. class] or 0) + took_ms
    changed['n' .. class], changed['ms' .. class] = kept['n' .. class], kept['ms' .. class]
  end
  local is_cut = fate == 'busy' and now >= tonumber(kept.hold or 0)
  local is_judged = calls >= math.max(ENOUGH, limit) and now - since >= 50 or now - since >= 5000
  if is_cut or is_judged then
    -- A probe has two parts: until those calls have ended that began before, and then for good.
    local part = tonumber(kept.probes or 0)
    local is_fast, is_probe = kept.slowed ~= '1', part > 0
    local ratio = slowness(kept, changed, part == 1)
    if is_cut then
      limit = math.max(1, math.min(limit, math.max(in_use, 1)) * (is_fast and 0.5 or 0.7))
      -- Calls that are under way began before: what becomes of them tells nothing of the new limit.
      local usual = tonumber(kept['base' .. class_of(items)] or took_ms)
      changed.hold = whole(now + math.max(50, math.min(2 * usual, 10000)))
    elseif ratio > SLOW and calls >= ENOUGH and not is_probe then
      limit = math.max(1, limit * 0.9)
    elseif full * 2 >= calls and not is_probe then
      limit = math.min(HIGHEST, is_fast and limit * 2 or limit + 1)
    end
    if is_cut or ratio > SLOW then
      changed.slowed = '1'
    end
    local changes = tonumber(kept.changes or 0) + 1
    if part == 0 then
      part = changes % PROBE == 0 and 2 or 0
    elseif part == 1 or in_use <= places then
      part = part - 1
    end
    changed.changes, changed.probes = changes % PROBE, part
    changed.limit, changed.since, changed.calls, changed.full = limit, whole(now), 0, 0
    for field in pairs(kept) do
      if string.match(field, '^n%d+$') or string.match(field, '^ms%d+$') then
        changed[field] = 0
      end
    end
  end
  words = {}
  for field, value in pairs(changed) do
    words[#words + 1], words[#words + 2] = field, value
  end
  redis.call('HSET', KEYS[4], unpack(words))
  redis.call('PEXPIRE', KEYS[4], 86400000)
end

-- ----- who gets a place -----

local function hold(holder, lease_ms)
  redis.call('ZADD', KEYS[2], now + lease_ms, holder)
  if redis.call('PTTL', KEYS[2]) < lease_ms * 2 then
    redis.call('PEXPIRE', KEYS[2], lease_ms * 2)
  end
end

local function task_of(holder)
  return string.match(holder, '^%S+ (.*)$') or ''
end

local function those_who_wait()
  local found, words = {}, redis.call('HGETALL', KEYS[3])
  for i = 1, #words, 2 do
    local due, until_ms, most, learns, lease, channel =
      string.match(words[i + 1], '^(%d+) (%d+) (%d+) (%d) (%d+) (.*)$')
    if due and tonumber(until_ms) >= now then
      found[#found + 1] = {
        holder = words[i], task = task_of(words[i]), due = tonumber(due), most = tonumber(most),
        learns = learns, lease = tonumber(lease), channel = channel,
      }
    else
      redis.call('HDEL', KEYS[3], words[i])
    end
  end
  table.sort(found, function(a, b) return a.due < b.due or a.due == b.due and a.holder < b.holder end)
  return found
end

-- Give free places to those who wait.
local function give_places()
  local waiting = those_who_wait()
  if #waiting == 0 then
    return
  end
  local in_use, tasks, taken = {}, 0, 0
  local function count(task, change)
    if not in_use[task] then
      in_use[task], tasks = 0, tasks + 1
    end
    in_use[task], taken = in_use[task] + change, taken + change
  end
  for _, holder in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    count(task_of(holder), 1)
  end
  for _, one in ipairs(waiting) do
    count(one.task, 0)
  end
  local function next_place()
    local place = nil
    for n, one in ipairs(waiting) do
      local limit = limit_of(one.most, one.learns)
      if taken < limit then
        if in_use[one.task] < math.max(1, math.floor(limit / tasks)) then
          return n
        end
        place = place or n
      end
    end
    return place
  end
  local place = next_place()
  while place do
    local one = table.remove(waiting, place)
    redis.call('HDEL', KEYS[3], one.holder)
    local is_there = true
    if one.holder ~= ARGV[8] and one.channel ~= '' then
      local heard = redis.pcall('PUBLISH', one.channel, 'place ' .. one.holder)
      is_there = type(heard) ~= 'number' or heard > 0
    end
    if is_there then
      hold(one.holder, one.lease)
      count(one.task, 1)
    end
    place = next_place()
  end
end

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if ARGV[4] ~= '' then
  local in_use = redis.call('ZCARD', KEYS[2])
  redis.call('HDEL', KEYS[3], ARGV[4])
  if redis.call('ZREM', KEYS[2], ARGV[4]) == 1 and ARGV[2] == '1' and ARGV[6] ~= '' then
    learn(in_use, tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7]))
  end
end
local is_taken = 0
if ARGV[8] ~= '' and redis.call('ZSCORE', KEYS[2], ARGV[8]) then
  hold(ARGV[8], tonumber(ARGV[3]))
  is_taken = 1
elseif ARGV[8] ~= '' then
  local most, is_alone = tonumber(ARGV[1]), redis.call('EXISTS', KEYS[3]) == 0
  if is_alone and redis.call('ZCARD', KEYS[2]) < limit_of(most, ARGV[2]) then
    hold(ARGV[8], tonumber(ARGV[3]))
    is_taken = 1
  else
    local wait = {whole(now + ARGV[9]), whole(now + ARGV[10]), ARGV[1], ARGV[2], ARGV[3], ARGV[11]}
    redis.call('HSET', KEYS[3], ARGV[8], table.concat(wait, ' '))
    redis.call('PEXPIRE', KEYS[3], 60000)
  end
end
if redis.call('EXISTS', KEYS[3]) == 1 then
  give_places()
  if ARGV[8] ~= '' and is_taken == 0 and redis.call('ZSCORE', KEYS[2], ARGV[8]) then
    is_taken = 1
  end
end
local limit = limit_of(tonumber(ARGV[1]), ARGV[2])
return {is_taken, limit == math.huge and 0 or limit}

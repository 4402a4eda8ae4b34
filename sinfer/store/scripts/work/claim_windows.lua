#!lua flags=allow-oom
-- Lease closed windows to a worker, the longest waiting first. Asked twice under one name, as by a
-- client that got no answer, it gives the same windows again.
--
-- A window whose lease ran out before is suspected of ending its worker, and is given alone.
--
-- KEYS  1  meta      hash
--       2  closed    hash
--       3  ready     zset
--       4  leases    zset
--       5  tokens    hash
--       6  attempts  hash
--       7  asked     string: what was given under this name before
--       8  aside     hash
--       9  deaths    hash
-- ARGV  1  limit     most windows to claim
--       2  lease_ms  how long a window is leased
--       3  hinted    windows that the Celery message in hand was sent for
--       4  keep_ms   how long the answer may be asked for again
--       5  alone     1: give one suspected window, and nothing else; 0: give none of these
--       6  waiter    channel of who is to be woken once there are more windows, when there are fewer
--                    now than it asked for; empty: nobody
--       7  wait_ms   how long it waits
-- Returns {now_ms, ready, suspected, window id, token, attempts, excused, deaths, closed value, ...}:
-- attempts are those that count and excused those that do not, ready
-- counts the windows that could still be claimed now, suspected those that could be claimed alone;
-- the closed value is 'reason closed_ms record'.
local now = now_of(KEYS[1])
local answer = {now, 0, 0}

local function give(id, token, attempts, value)
  local deaths = redis.call('HGET', KEYS[9], id) or '0'
  local excused = redis.call('HGET', KEYS[6], 'excused ' .. id) or '0'
  for _, word in ipairs({id, token, attempts, excused, deaths, value}) do
    answer[#answer + 1] = word
  end
end

local function suspects()
  local found = {}
  for _, id in ipairs(redis.call('HKEYS', KEYS[9])) do
    local due = tonumber(redis.call('ZSCORE', KEYS[3], id))
    if due and due <= now then
      found[#found + 1] = {due, id}
    end
  end
  table.sort(found, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
  return found
end

local function to_give(limit)
  if redis.call('HLEN', KEYS[9]) == 0 then
    return ARGV[5] == '1' and {} or redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, limit)
  end
  local suspected = suspects()
  if ARGV[5] == '1' then
    return {suspected[1] and suspected[1][2]}
  end
  local ids = {}
  local all = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, limit + #suspected)
  for _, id in ipairs(all) do
    if #ids < limit and redis.call('HEXISTS', KEYS[9], id) == 0 then
      ids[#ids + 1] = id
    end
  end
  return ids
end

local given = redis.call('GET', KEYS[7])
if given then
  for id, token in string.gmatch(given, '(%S+) (%d+)') do
    local value = redis.call('HGET', KEYS[2], id)
    if value and holds(KEYS[5], KEYS[4], id, token) then
      give(id, token, tonumber(redis.call('HGET', KEYS[6], id) or '1'), value)
    end
  end
else
  redeem(KEYS[1], ARGV[3])
  local claims = redis.call('HGET', KEYS[1], 'claims')
  local notes = {}
  for _, id in ipairs(to_give(tonumber(ARGV[1]))) do
    local value = redis.call('HGET', KEYS[2], id)
    redis.call('ZREM', KEYS[3], id)
    if value then
      claims = next_token(claims, now)
      local token = whole(claims)
      redis.call('HSET', KEYS[5], id, token)
      redis.call('ZADD', KEYS[4], now + ARGV[2], id)
      give(id, token, redis.call('HINCRBY', KEYS[6], id, 1), value)
      notes[#notes + 1] = id .. ' ' .. token
    else
      local damage = cmsgpack.pack({'its record is gone from the store'})
      redis.call('HSET', KEYS[8], id, whole(now) .. ' ' .. damage)
    end
  end
  if #notes > 0 then
    redis.call('HSET', KEYS[1], 'claims', whole(claims))
    redis.call('SET', KEYS[7], table.concat(notes, ' '), 'PX', ARGV[4])
  end
end
if redis.call('HLEN', KEYS[9]) > 0 then
  answer[3] = #suspects()
end
answer[2] = claimable(KEYS[3], now) - answer[3]
local claimed = (#answer - 3) / 6
if answer[2] <= 0 and ARGV[6] ~= '' and claimed < tonumber(ARGV[1]) and redis.call('EXISTS', KEYS[1]) == 1 then
  add_waiter(KEYS[1], ARGV[6], now + ARGV[7])
end
return answer

#!lua flags=allow-oom
-- Lease closed windows to a worker, the longest waiting first. Asked twice under one name, as by a
-- client that got no answer, it gives the same windows again.
--
-- KEYS  1 meta  2 closed  3 ready  4 leases  5 tokens  6 attempts  7 asked (what was given before)
--       8 aside
-- ARGV  1 limit      most windows to claim
--       2 lease_ms
--       3 hinted     windows that the Celery message in hand was sent for
--       4 keep_ms    how long the answer may be asked for again
-- Returns {now_ms, ready, window id, token, attempt, closed value, ...}: ready counts the windows
-- that could still be claimed now; the closed value is 'reason closed_ms record'.
--
-- Tokens follow the clock, so that none comes twice, not even when Redis was wiped or has lost its
-- last second: a worker from before must not complete a window of the same name.
local now = now_of(KEYS[1])
local answer = {now, 0}

local function give(id, token, attempt, value)
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = id, token, attempt, value
end

local given = redis.call('GET', KEYS[7])
if given then
  for id, token in string.gmatch(given, '(%S+) (%d+)') do
    local value = redis.call('HGET', KEYS[2], id)
    if value and redis.call('HGET', KEYS[5], id) == token and redis.call('ZSCORE', KEYS[4], id) then
      give(id, token, redis.call('HGET', KEYS[6], id) or '1', value)
    end
  end
else
  local hinted = redis.call('HGET', KEYS[1], 'hinted')
  if hinted and ARGV[3] ~= '0' then
    redis.call('HSET', KEYS[1], 'hinted', math.max(0, hinted - ARGV[3]))
  end
  local claims = tonumber(redis.call('HGET', KEYS[1], 'claims') or '0')
  local notes = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[1])) do
    local value = redis.call('HGET', KEYS[2], id)
    redis.call('ZREM', KEYS[3], id)
    if value then
      claims = math.max(claims + 1, now)
      local token = string.format('%.0f', claims)
      redis.call('HSET', KEYS[5], id, token)
      redis.call('ZADD', KEYS[4], now + ARGV[2], id)
      give(id, token, redis.call('HINCRBY', KEYS[6], id, 1), value)
      notes[#notes + 1] = id .. ' ' .. token
    else
      local damage = cmsgpack.pack({'its record is gone from the store'})
      redis.call('HSET', KEYS[8], id, string.format('%.0f', now) .. ' ' .. damage)
    end
  end
  if #notes > 0 then
    redis.call('HSET', KEYS[1], 'claims', string.format('%.0f', claims))
    redis.call('SET', KEYS[7], table.concat(notes, ' '), 'PX', ARGV[4])
  end
end
answer[2] = redis.call('ZCOUNT', KEYS[3], '-inf', now)
return answer

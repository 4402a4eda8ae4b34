#!lua flags=allow-oom
-- Put windows back that no index names any more, because a key was deleted or evicted.
--
-- KEYS  1 open  2 deadlines  3 closed  4 ready  5 leases  6 sealed  7 aside
-- ARGV  for each window: its id, the index (deadlines, ready or sealed), its score there (ready: 0
--       for now)
-- Returns how many were put back.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local restored = 0
for i = 1, #ARGV, 3 do
  local id, index, score = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local added = 0
  if index == 'deadlines' then
    if redis.call('HEXISTS', KEYS[1], id) == 1 then
      added = redis.call('ZADD', KEYS[2], 'NX', score, id)
    end
  elseif redis.call('HEXISTS', KEYS[3], id) == 1
    and redis.call('HEXISTS', KEYS[7], id) == 0
    and not redis.call('ZSCORE', KEYS[4], id)
    and not redis.call('ZSCORE', KEYS[5], id)
    and not redis.call('ZSCORE', KEYS[6], id) then
    added = index == 'sealed' and redis.call('ZADD', KEYS[6], score, id) or redis.call('ZADD', KEYS[4], now, id)
  end
  restored = restored + added
end
return restored

#!lua flags=allow-oom
-- Put windows back that no index names any more, because a key was deleted or evicted.
--
-- KEYS  1  meta       hash
--       2  open       hash
--       3  deadlines  zset
--       4  closed     hash
--       5  ready      zset
--       6  leases     zset
--       7  sealed     zset
--       8  aside      hash
-- ARGV  1..  for each window: its id, the index (deadlines, ready or sealed), its score there (ready: 0
--            for now)
-- Returns how many were put back.
local now = now_of(KEYS[1])
local restored = 0
for i = 1, #ARGV, 3 do
  local id, index, score = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local added = 0
  if index == 'deadlines' then
    if redis.call('HEXISTS', KEYS[2], id) == 1 then
      added = redis.call('ZADD', KEYS[3], 'NX', score, id)
    end
  elseif redis.call('HEXISTS', KEYS[4], id) == 1
    and redis.call('HEXISTS', KEYS[8], id) == 0
    and not redis.call('ZSCORE', KEYS[5], id)
    and not redis.call('ZSCORE', KEYS[6], id)
    and not redis.call('ZSCORE', KEYS[7], id) then
    added = index == 'sealed' and redis.call('ZADD', KEYS[7], score, id) or redis.call('ZADD', KEYS[5], now, id)
  end
  restored = restored + added
end
return restored

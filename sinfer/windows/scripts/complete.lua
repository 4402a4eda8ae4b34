#!lua flags=allow-oom
-- End leased windows: their results are in every sink, or their messages are dead letters.
--
-- KEYS  1 meta  2 closed  3 leases  4 tokens  5 attempts  6 refs  7 dead
--       8..     for each window: its output, then its segments
-- ARGV  for each window: id, token, shared (0 or 1), number of segments, their names,
--       number of counts, field, change, ..., number of dead letters, dead letters
-- Returns for each window 1, or 0 when the worker does not hold it any more.
local done = {}
local key, at = 8, 1
while at <= #ARGV do
  local id, token, shared = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local segments = tonumber(ARGV[at + 3])
  local names = at + 4
  local counts = names + segments
  local n_counts = tonumber(ARGV[counts])
  local letters = counts + 1 + 2 * n_counts
  local n_letters = tonumber(ARGV[letters])
  if redis.call('HGET', KEYS[4], id) == token and redis.call('ZREM', KEYS[3], id) == 1 then
    redis.call('HDEL', KEYS[2], id)
    redis.call('HDEL', KEYS[4], id)
    redis.call('HDEL', KEYS[5], id)
    redis.call('UNLINK', KEYS[key])
    for i = 0, segments - 1 do
      if shared == '0' then
        redis.call('UNLINK', KEYS[key + 1 + i])
      elseif redis.call('HINCRBY', KEYS[6], ARGV[names + i], -1) <= 0 then
        redis.call('HDEL', KEYS[6], ARGV[names + i])
        redis.call('UNLINK', KEYS[key + 1 + i])
      end
    end
    for i = counts + 1, letters - 1, 2 do
      redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
    end
    for i = letters + 1, letters + n_letters do
      redis.call('XADD', KEYS[7], '*', 'letter', ARGV[i])
    end
    done[#done + 1] = 1
  else
    done[#done + 1] = 0
  end
  key = key + 1 + segments
  at = letters + n_letters + 1
end
return done

#!lua flags=allow-oom
-- End leased windows: their results are in every sink, or their messages are dead letters.
--
-- A shared segment is freed when nobody holds it any more. Then its messages are accounted for:
-- those that one of its windows gave up are dead, the others sunk. A message that several windows
-- give up becomes one dead letter.
--
-- KEYS  1     meta      hash
--       2     closed    hash
--       3     leases    zset
--       4     tokens    hash
--       5     attempts  hash
--       6     refs      hash
--       7     held      hash
--       8     dead      stream
--       9     ledger    stream
--       10    members   hash
--       11    deaths    hash
--       12..  for each window: its output, hash, then for each of its segments: it, list, and the set of
--             its messages that were given up
-- ARGV  1..  for each window, one behind the other:
--            id
--            token
--            shared    0 or 1
--            segments  how many; then their names
--            counts    how many; then field, change for each
--            letters   how many; then for each:
--                      the place of its segment among the window's (from 1; 0 where not shared),
--                      its message's stream sequence,
--                      the dead letter; for a message that was filtered out of a window that shares
--                      it f and the sequence, and nothing
--            ledger    how many entries it keeps; 0: note nothing
--            entry     of the ledger
-- Returns for each window 1, or 0 when the worker does not hold it any more.
local now = now_of(KEYS[1])
local keys = {meta = KEYS[1], refs = KEYS[6], held = KEYS[7], members = KEYS[10]}
local done = {}
local key, at = 12, 1
while at <= #ARGV do
  local id, token, shared = ARGV[at], ARGV[at + 1], ARGV[at + 2] == '1'
  local segments = tonumber(ARGV[at + 3])
  local names = at + 4
  local counts = names + segments
  local letters = counts + 1 + 2 * tonumber(ARGV[counts])
  local after = letters + 1 + 3 * tonumber(ARGV[letters])
  if end_lease(KEYS[4], KEYS[3], id, token) then
    redis.call('HDEL', KEYS[2], id)
    redis.call('HDEL', KEYS[4], id)
    forget_attempts(KEYS[5], id)
    redis.call('HDEL', KEYS[11], id)
    redis.call('UNLINK', KEYS[key])
    for i = counts + 1, letters - 1, 2 do
      redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
    end
    for i = letters + 1, after - 1, 3 do
      local place = tonumber(ARGV[i])
      if place == 0 or redis.call('SADD', KEYS[key + 2 * place], ARGV[i + 1]) == 1 then
        if ARGV[i + 2] ~= '' then
          add_entry(KEYS[8], now, {}, 'letter', ARGV[i + 2])
        end
      end
    end
    for i = 1, segments do
      local segment = key + 2 * i - 1
      local name = ARGV[names + i - 1]
      if not shared then
        redis.call('UNLINK', KEYS[segment])
        forget_members(keys.members, name)
      elseif (tonumber(redis.call('HGET', KEYS[6], name) or '-1') or -1) <= 0 then
        -- Who else holds it is not known any more: it stays until that was counted again.
        redis.call('HSET', KEYS[6], name, -1)
      elseif redis.call('HINCRBY', KEYS[6], name, -1) <= 0 then
        free_segment(keys, name, KEYS[segment], KEYS[segment + 1])
      end
    end
    if ARGV[after] ~= '0' then
      add_entry(KEYS[9], now, {'MAXLEN', ARGV[after]}, 'entry', ARGV[after + 1])
    end
    done[#done + 1] = 1
  else
    done[#done + 1] = 0
  end
  key = key + 1 + 2 * segments
  at = after + 2
end
return done

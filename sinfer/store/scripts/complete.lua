#!lua flags=allow-oom
-- End leased windows: their results are in every sink, or their messages are dead letters.
--
-- A shared segment is freed when nobody holds it any more. Then its messages are accounted for:
-- those that one of its windows gave up are dead, the others sunk. A message that several windows
-- give up becomes one dead letter.
--
-- KEYS  1 meta  2 closed  3 leases  4 tokens  5 attempts  6 refs  7 held  8 dead  9 ledger
--       10 members  11 deaths
--       12..    for each window: its output, then its segments, each with its set of given up
--               messages
-- ARGV  for each window: id, token, shared (0 or 1), number of segments, their names,
--       number of counts, field, change, ..., number of dead letters, then for each of these
--       the place of its segment among the window's (from 1; 0 where not shared), its message's
--       stream sequence, the dead letter (or f and the sequence, and nothing, for a message that was
--       filtered out of a window that shares it); how many entries the ledger keeps (0: note nothing), entry
-- Returns for each window 1, or 0 when the worker does not hold it any more.
local function forget_members(segment)
  local number = 0
  redis.call('HDEL', KEYS[10], segment)
  repeat
    number = number + 1
  until redis.call('HDEL', KEYS[10], segment .. '#' .. number) == 0
end

local function free(segment, key)
  local messages = tonumber(redis.call('HGET', KEYS[7], segment) or '0')
  local given_up, filtered = without_result(KEYS[key + 1])
  redis.call('HDEL', KEYS[6], segment)
  redis.call('HDEL', KEYS[7], segment)
  redis.call('UNLINK', KEYS[key], KEYS[key + 1])
  forget_members(segment)
  redis.call('HINCRBY', KEYS[1], 'sunk', messages - given_up - filtered)
  redis.call('HINCRBY', KEYS[1], 'dead', given_up)
  redis.call('HINCRBY', KEYS[1], 'filtered', filtered)
end

local now = now_of(KEYS[1])
local done = {}
local key, at = 12, 1
while at <= #ARGV do
  local id, token, shared = ARGV[at], ARGV[at + 1], ARGV[at + 2] == '1'
  local segments = tonumber(ARGV[at + 3])
  local names = at + 4
  local counts = names + segments
  local letters = counts + 1 + 2 * tonumber(ARGV[counts])
  local after = letters + 1 + 3 * tonumber(ARGV[letters])
  if redis.call('HGET', KEYS[4], id) == token and redis.call('ZREM', KEYS[3], id) == 1 then
    redis.call('HDEL', KEYS[2], id)
    redis.call('HDEL', KEYS[4], id)
    redis.call('HDEL', KEYS[5], id)
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
        forget_members(name)
      elseif (tonumber(redis.call('HGET', KEYS[6], name) or '-1') or -1) <= 0 then
        -- Who else holds it is not known any more: it stays until that was counted again.
        redis.call('HSET', KEYS[6], name, -1)
      elseif redis.call('HINCRBY', KEYS[6], name, -1) <= 0 then
        free(name, segment)
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

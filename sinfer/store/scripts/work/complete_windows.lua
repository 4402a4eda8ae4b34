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
--       12    unfinished  zset
--       13..  for each window: its output, hash, then for each of its segments: it, list, and the set of
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

-- What all windows of the call have to do with one key goes there in one command.
local counts, counted = {}, {} -- by field; the fields in the order in which they came
local ended, attempts, segments_gone, keys_gone = {}, {}, {}, {}

local function count(field, change)
  if not counts[field] then
    counts[field] = 0
    counted[#counted + 1] = field
  end
  counts[field] = counts[field] + change
end

-- What is known of a window: where its parts begin in ARGV, and its first key.
local function windows_of_call()
  local found, key, at = {}, 13, 1
  while at <= #ARGV do
    local window = {id = ARGV[at], token = ARGV[at + 1], shared = ARGV[at + 2] == '1', key = key}
    window.segments, window.names = tonumber(ARGV[at + 3]), at + 4
    window.counts = window.names + window.segments
    window.letters = window.counts + 1 + 2 * tonumber(ARGV[window.counts])
    window.after = window.letters + 1 + 3 * tonumber(ARGV[window.letters])
    found[#found + 1] = window
    key = key + 1 + 2 * window.segments
    at = window.after + 2
  end
  return found
end

local function let_go_of_segments(window)
  for i = 1, window.segments do
    local segment = window.key + 2 * i - 1
    local name = ARGV[window.names + i - 1]
    if not window.shared then
      keys_gone[#keys_gone + 1] = KEYS[segment]
      segments_gone[#segments_gone + 1] = name
    elseif (tonumber(redis.call('HGET', KEYS[6], name) or '-1') or -1) <= 0 then
      -- Who else holds it is not known any more: it stays until that was counted again.
      redis.call('HSET', KEYS[6], name, -1)
    elseif redis.call('HINCRBY', KEYS[6], name, -1) <= 0 then
      free_segment(keys, name, KEYS[segment], KEYS[segment + 1])
    end
  end
end

local function complete(window)
  ended[#ended + 1] = window.id
  add_attempts(attempts, window.id)
  keys_gone[#keys_gone + 1] = KEYS[window.key]
  for i = window.counts + 1, window.letters - 1, 2 do
    count(ARGV[i], tonumber(ARGV[i + 1]))
  end
  for i = window.letters + 1, window.after - 1, 3 do
    local place = tonumber(ARGV[i])
    if place == 0 or redis.call('SADD', KEYS[window.key + 2 * place], ARGV[i + 1]) == 1 then
      if ARGV[i + 2] ~= '' then
        add_entry(KEYS[8], now, {}, 'letter', ARGV[i + 2])
      end
    end
  end
  let_go_of_segments(window)
  if ARGV[window.after] ~= '0' then
    add_entry(KEYS[9], now, {'MAXLEN', ARGV[window.after]}, 'entry', ARGV[window.after + 1])
  end
end

local windows, ids = windows_of_call(), {}
for n, window in ipairs(windows) do
  ids[n] = window.id
end
local tokens = ask_of_all('HMGET', KEYS[4], ids)
local done, is_done = {}, {}
for n, window in ipairs(windows) do
  done[n] = 0
  local is_held = tokens[n] == window.token and redis.call('ZSCORE', KEYS[3], window.id)
  if is_held and not is_done[window.id] then
    done[n], is_done[window.id] = 1, true
    complete(window)
  end
end
tell_all('ZREM', KEYS[3], ended)
tell_all('HDEL', KEYS[2], ended)
tell_all('HDEL', KEYS[4], ended)
tell_all('HDEL', KEYS[5], attempts)
tell_all('HDEL', KEYS[11], ended)
tell_all('ZREM', KEYS[12], ended)
forget_all_members(keys.members, segments_gone)
tell_all('UNLINK', nil, keys_gone)
for _, field in ipairs(counted) do
  redis.call('HINCRBY', KEYS[1], field, whole(counts[field]))
end
return done

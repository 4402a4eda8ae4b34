-- Append results to a stream, each once.
--
-- KEYS[1]   the stream
-- KEYS[2]   marker of the window: the highest revision of which anything was appended. Earlier
--           versions wrote "<revision>:<ordinal>" here, of the result appended last
-- KEYS[3..] bitmaps of what was appended: the ordinals of this window, or the messages of a partition
--
-- ARGV[1]   revision of the window
-- ARGV[2]   how long to keep markers and bitmaps after their last change, milliseconds
-- ARGV[3]   most entries of the stream, about; 0: no limit
-- ARGV[4]   id of the product
-- ARGV[5]   id of the task
-- ARGV[6]   id of the window, revision included
-- ARGV[7]   how the ids of the results begin
-- ARGV[8]   how they end
-- ARGV[9]   1: what is left of an earlier version's marker does not count, since it knows only the
--           last ordinal, and parts of the window are processed once more
-- ARGV[10..] of each result: which of KEYS its bitmap is, its bit, its ordinal, its JSON
--
-- Returns how many were appended. Results of a lower revision than the marker's are not.
--
-- The first write is an XADD, which a full or mistyped stream refuses before anything is written.
-- Markers and bitmaps of another type are found before that, by reading them.

local revision = tonumber(ARGV[1])
local maxlen = tonumber(ARGV[3])
local upto = -1

local seen = redis.call('GET', KEYS[2])
if seen then
  local newest, ordinal = string.match(seen, '^(%d+):?(%d*)$')
  newest = tonumber(newest)
  if newest > revision then
    return 0
  end
  if newest == revision and ordinal ~= '' and ARGV[9] == '0' then
    upto = tonumber(ordinal)
  end
end
for k = 3, #KEYS do
  redis.call('GETBIT', KEYS[k], 0)
end

local changed = {}
local appended = 0
for i = 10, #ARGV, 4 do
  local bitmap, bit = tonumber(ARGV[i]), ARGV[i + 1]
  if tonumber(ARGV[i + 2]) > upto and redis.call('GETBIT', KEYS[bitmap], bit) == 0 then
    local id = ARGV[7] .. '/' .. ARGV[i + 2] .. ARGV[8]
    if maxlen > 0 then
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', maxlen, '*', 'id', id, 'product', ARGV[4],
        'task', ARGV[5], 'window', ARGV[6], 'revision', ARGV[1], 'data', ARGV[i + 3])
    else
      redis.call('XADD', KEYS[1], '*', 'id', id, 'product', ARGV[4],
        'task', ARGV[5], 'window', ARGV[6], 'revision', ARGV[1], 'data', ARGV[i + 3])
    end
    redis.call('SETBIT', KEYS[bitmap], bit, 1)
    changed[bitmap] = true
    appended = appended + 1
  end
end

for bitmap in pairs(changed) do
  redis.call('PEXPIRE', KEYS[bitmap], ARGV[2])
end
if appended > 0 and revision > 0 then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
end
return appended

-- Append results that are known by their messages to a stream, each once.
--
-- KEYS[1]   the stream
-- KEYS[2..] bitmaps of the messages whose results were appended
--
-- ARGV[1]   revision of the window
-- ARGV[2]   how long to keep the bitmaps after their last change, milliseconds
-- ARGV[3]   most entries of the stream, about; 0: no limit
-- ARGV[4]   id of the task
-- ARGV[5]   id of the window, revision included
-- ARGV[6]   how the ids of the results begin
-- ARGV[7..] of each result: which of KEYS its bitmap is, its bit, its ordinal, its JSON
--
-- Returns how many were appended.
--
-- The first write is an XADD, which a full or mistyped stream refuses before anything is written.
-- Bitmaps of another type are found before that, by reading them.

local maxlen = tonumber(ARGV[3])

for k = 2, #KEYS do
  redis.call('GETBIT', KEYS[k], 0)
end

local changed = {}
local appended = 0
for i = 7, #ARGV, 4 do
  local bitmap, bit = tonumber(ARGV[i]), ARGV[i + 1]
  if redis.call('GETBIT', KEYS[bitmap], bit) == 0 then
    local id = ARGV[6] .. '/' .. ARGV[i + 2]
    if maxlen > 0 then
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', maxlen, '*', 'id', id, 'task', ARGV[4],
        'window', ARGV[5], 'revision', ARGV[1], 'data', ARGV[i + 3])
    else
      redis.call('XADD', KEYS[1], '*', 'id', id, 'task', ARGV[4],
        'window', ARGV[5], 'revision', ARGV[1], 'data', ARGV[i + 3])
    end
    redis.call('SETBIT', KEYS[bitmap], bit, 1)
    changed[bitmap] = true
    appended = appended + 1
  end
end

for bitmap in pairs(changed) do
  redis.call('PEXPIRE', KEYS[bitmap], ARGV[2])
end
return appended

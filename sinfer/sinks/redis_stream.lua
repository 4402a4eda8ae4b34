-- Append results of one window to a stream, each once.
--
-- KEYS[1]   the stream
-- KEYS[2]   marker of the window: "<revision>:<ordinal>" of the result appended last
--
-- ARGV[1]   revision of the window
-- ARGV[2]   how long to keep the marker, milliseconds
-- ARGV[3]   most entries of the stream, about; 0: no limit
-- ARGV[4]   id of the task
-- ARGV[5]   id of the window, revision included
-- ARGV[6..] ordinal and JSON of each result, in ascending order of the ordinals
--
-- Returns how many were appended. Results of a lower revision than the marker's are not, nor are
-- those up to the marker's ordinal of the same revision.
--
-- The first write is an XADD, which a full or mistyped stream refuses before anything is written.

local revision = tonumber(ARGV[1])
local maxlen = tonumber(ARGV[3])
local last = -1

local marker = redis.call('GET', KEYS[2])
if marker then
  local seen, ordinal = string.match(marker, '^(%d+):(%d+)$')
  seen = tonumber(seen)
  if seen > revision then
    return 0
  end
  if seen == revision then
    last = tonumber(ordinal)
  end
end

local appended = 0
for i = 6, #ARGV, 2 do
  local ordinal = tonumber(ARGV[i])
  if ordinal > last then
    local id = ARGV[5] .. '/' .. ARGV[i]
    if maxlen > 0 then
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', maxlen, '*', 'id', id, 'task', ARGV[4],
        'window', ARGV[5], 'revision', ARGV[1], 'data', ARGV[i + 1])
    else
      redis.call('XADD', KEYS[1], '*', 'id', id, 'task', ARGV[4],
        'window', ARGV[5], 'revision', ARGV[1], 'data', ARGV[i + 1])
    end
    last = ordinal
    appended = appended + 1
  end
end

if appended > 0 then
  redis.call('SET', KEYS[2], ARGV[1] .. ':' .. string.format('%d', last), 'PX', ARGV[2])
end
return appended

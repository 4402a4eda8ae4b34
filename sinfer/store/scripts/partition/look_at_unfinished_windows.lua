#!lua flags=allow-oom
-- What the windows of a partition hold that are not done, at a cost that does not grow with them.
--
-- KEYS  1  meta        hash
--       2  open        hash
--       3  closed      hash
--       4  unfinished  zset: open and closed windows by the least stream sequence of their messages;
--                      some that are done may be among them
--       5  dead        stream
-- ARGV  1  first   1: look for that sequence as well
--       2  letters look for the last dead letter behind this id; empty: do not
--       3  most    closed windows that are shown; of more, so many are drawn by lot
-- Returns {token, commits, copied, closed windows, first_seq, last dead letter, window id, value, ...};
-- first_seq is empty where no window is left, 'more' where it is to be asked again, and the letter's
-- id is empty where there is none.
local MOST_FORGOTTEN = 1000 -- in one call
local meta = redis.call('HMGET', KEYS[1], 'token', 'commits', 'mirrored')
local answer = {meta[1] or '', meta[2] or '0', meta[3] or '', redis.call('HLEN', KEYS[3]), '', ''}
if ARGV[1] == '1' then
  local done = {}
  repeat
    local first = redis.call('ZRANGE', KEYS[4], #done, #done, 'WITHSCORES')
    local id = first[1]
    answer[5] = id and whole(first[2]) or ''
    local is_done = id and redis.call('HEXISTS', KEYS[2], id) == 0 and redis.call('HEXISTS', KEYS[3], id) == 0
    if is_done then
      done[#done + 1], answer[5] = id, 'more'
    end
  until not is_done or #done >= MOST_FORGOTTEN
  tell_all('ZREM', KEYS[4], done)
end
if ARGV[2] ~= '' then
  local last = redis.call('XREVRANGE', KEYS[5], '+', ARGV[2], 'COUNT', 1)[1]
  answer[6] = last and last[1] or ''
end
for _, word in ipairs(redis.call('HRANDFIELD', KEYS[3], ARGV[3], 'WITHVALUES')) do
  answer[#answer + 1] = word
end
return answer

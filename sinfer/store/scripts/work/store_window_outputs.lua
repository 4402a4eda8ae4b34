#!lua flags=allow-oom
-- Keep something about leased windows for their next attempts: model output, or finished sinks.
--
-- KEYS  1    tokens  hash
--       2    leases  zset
--       3..  for each window: its output, hash
-- ARGV  1..  for each window, one behind the other:
--            id
--            token   of the claim
--            fields  how many words follow: for each field its name and its value
-- Returns for each window 1, or 0 when the worker does not hold it any more, or why it is not kept:
-- something else may be where its output belongs.
local done, at = {}, 1
for key = 3, #KEYS do
  local first = at + 3
  local last = first + tonumber(ARGV[at + 2]) - 1
  done[#done + 1] = 0
  if holds(KEYS[1], KEYS[2], ARGV[at], ARGV[at + 1]) then
    local is_kept, why = pcall(tell, 'HSET', KEYS[key], ARGV, first, last)
    done[#done] = is_kept and 1 or (type(why) == 'table' and why.err or tostring(why))
  end
  at = last + 1
end
return done

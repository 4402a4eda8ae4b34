#!lua flags=allow-oom
-- Have beat send hints again from a time on, for all windows that are ready by then: workers left
-- those alone that were sent.
--
-- KEYS  1  meta  hash
-- ARGV  1  wait_ms  from now on
-- Returns 1, or 0 when the partition has no state.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
let_promises_lapse(KEYS[1], now_of(KEYS[1]) + ARGV[1])
return 1

#!lua flags=allow-oom
-- Note what a writer is about to give to a product's code, which may end the process; or that all
-- went well.
--
-- KEYS  1  meta  hash
-- ARGV  1  token   the fencing token of the lease
--       2  hand    what it is; empty: forget this and the deaths
--       3  deaths  how many writers it has ended, at least
-- Returns 1, or 0 when the token is not the current one.
local held = redis.call('HMGET', KEYS[1], 'token', 'deaths')
if held[1] ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], 'hand', 'deaths')
  return 1
end
local deaths = math.max(tonumber(held[2] or '0') or 0, tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'hand', ARGV[2], 'deaths', string.format('%d', deaths))
return 1

#!lua flags=allow-oom
-- Remove what is stored of a partition, when no window of it is left.
--
-- KEYS  1    meta    hash
--       2    open    hash
--       3    closed  hash
--       4..  others  all others but dead letters
-- ARGV  1  token  the fencing token of the lease
-- Returns how many windows are open or closed: 0 when all is removed now, or was before; -1 when
-- someone else holds the lease.
local token = redis.call('HGET', KEYS[1], 'token')
if token and token ~= ARGV[1] then
  return -1
end
local left = redis.call('HLEN', KEYS[2]) + redis.call('HLEN', KEYS[3])
if left == 0 then
  for _, key in ipairs(KEYS) do
    redis.call('UNLINK', key)
  end
end
return left

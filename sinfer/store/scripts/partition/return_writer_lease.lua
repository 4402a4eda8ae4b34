#!lua flags=allow-oom
-- Give the writer lease back.
--
-- KEYS  1  meta  hash
-- ARGV  1  token  the fencing token of the lease
-- Returns 1, or 0 when someone else holds the lease.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], 'owner', 'lease_until')
return 1

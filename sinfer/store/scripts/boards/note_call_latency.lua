#!lua flags=allow-oom
-- Add sums over calls to those that an endpoint's latency curve is fitted to. The more calls come,
-- the less those before them weigh.
--
-- KEYS  1  curve  hash: the sums, by name
-- ARGV  1  most    weight that is kept of earlier calls at most, with the new ones
--       2.. name, sum: 'weight' first
-- Returns the sums as they are then, in the same order.
local kept = {}
for i = 2, #ARGV, 2 do
  kept[i] = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '0') or 0
end
local room = math.max(0, ARGV[1] - ARGV[3])
local share = kept[2] > room and room / kept[2] or 1
local sums, words = {}, {}
for i = 2, #ARGV, 2 do
  local sum = string.format('%.6f', kept[i] * share + ARGV[i + 1])
  sums[#sums + 1] = sum
  words[#words + 1], words[#words + 2] = ARGV[i], sum
end
redis.call('HSET', KEYS[1], unpack(words))
redis.call('PEXPIRE', KEYS[1], 86400000)
return sums

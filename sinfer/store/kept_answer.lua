-- The end of a script whose answer is kept for a while: asked again with the same last key, as by a
-- client that got no answer, it changes nothing and says the same. The script itself is the function
-- `body`, and does not see that key.
local asked = KEYS[#KEYS]
local kept = redis.call('GET', asked)
if kept then
  return cmsgpack.unpack(kept)
end
KEYS[#KEYS] = nil
local answer = body()
redis.call('SET', asked, cmsgpack.pack(answer), 'PX', KEPT_MS)
return answer

-- KEYS: the queue's, catalogue, version of the routes. ARGV: name, a new version. Removes everything that the queue has. Answers
-- 0: no such queue, 1: removed.
--- @include keys
--- @include notify

local catalogue, version = KEYS[ALL + 1], KEYS[ALL + 2]
local there = redis.call('EXISTS', KEYS[QUEUE]) + redis.call('HEXISTS', catalogue, ARGV[1])
if there == 0 then return 0 end
wake(0, WAITERS, 16)
wake(0, PUBLISHERS, 16)
redis.call('HDEL', catalogue, ARGV[1])
redis.call('UNLINK', unpack(KEYS, 1, ALL))
if redis.call('EXISTS', catalogue) == 0 then
  redis.call('DEL', version)
elseif redis.call('EXISTS', version) == 1 then
  redis.call('SET', version, ARGV[2])
end
return 1

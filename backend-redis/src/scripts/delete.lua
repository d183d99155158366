-- KEYS: the queue's, catalogue, version of the routes, what changed. ARGV: name, the channel of those who would bring it back.
-- Removes everything that the queue has. Answers
-- 0: no such queue, 1: removed.
--- @include keys
--- @include notify

local catalogue, version, changes = KEYS[ALL + 1], KEYS[ALL + 2], KEYS[ALL + 3]
local there = redis.call('EXISTS', KEYS[QUEUE]) + redis.call('HEXISTS', catalogue, ARGV[1])
if there == 0 then return 0 end
local known = redis.call('HGET', catalogue, ARGV[1])
wake(0, WAITERS, 16)
wake(0, PUBLISHERS, 16)
redis.call('HDEL', catalogue, ARGV[1])
redis.call('UNLINK', unpack(KEYS, 1, ALL))
redis.call('PUBLISH', ARGV[2], ARGV[1])
if redis.call('EXISTS', catalogue) == 0 then redis.call('DEL', version, changes) end
local epoch = string.match(redis.call('GET', version) or '', '^[^.]+')
local is_bound = known and string.find(known, '"bindings"', 1, true)
if epoch and is_bound then
  --- @include changes
  routes_changed(epoch, ARGV[1])
end
return 1

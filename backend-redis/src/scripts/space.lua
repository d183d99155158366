-- KEYS: the queue's. ARGV: whom to wake when there is room. Answers 0: no such queue; else { whether nobody has to wait, counts as of
-- publish.lua }, after what is due was applied.
--- @include keys
--- @include library
--- @include placing

local target = target_of(0)
if not target then return 0 end
local counts = {}
local _, waits = without_room({ target })
if waits then
  redis.call('ZREMRANGEBYSCORE', KEYS[PUBLISHERS], '-inf', now - 60000)
  redis.call('ZADD', KEYS[PUBLISHERS], now, ARGV[1])
end
finish(target, counts)
return { waits and 0 or 1, counts }

-- KEYS: queue. ARGV: whom to wake when there is room. Answers 0: no such queue; else { whether nobody has to wait, counts as of
-- publish.lua }, after what is due was applied.
local P = KEYS[1]
local target = aim(P)
if not target then return 0 end
local counts = {}
local _, waits = without_room({ target })
if waits then
  redis.call('ZREMRANGEBYSCORE', P .. ':p', '-inf', now - 60000)
  redis.call('ZADD', P .. ':p', now, ARGV[1])
end
finish(target, counts)
return { waits and 0 or 1, counts }

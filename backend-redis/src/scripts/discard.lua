-- KEYS: the queue's. ARGV: ids of dead letters. Answers 0: no such queue; else for each 1: removed, 0: was not there.
--- @include keys

if redis.call('EXISTS', KEYS[QUEUE]) == 0 then return 0 end
local answers = {}
for i, dead in ipairs(ARGV) do answers[i] = redis.call('XDEL', KEYS[DEAD], dead) end
return answers

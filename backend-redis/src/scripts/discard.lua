-- KEYS: queue. ARGV: ids of dead letters. Answers 0: no such queue; else for each 1: removed, 0: was not there.
local P = KEYS[1]
if redis.call('EXISTS', P .. ':q') == 0 then return 0 end
local answers = {}
for i, dead in ipairs(ARGV) do answers[i] = redis.call('XDEL', P .. ':dlq', dead) end
return answers

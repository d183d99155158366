-- KEYS: queue, catalogue. ARGV: name. Removes everything that the queue has. Answers 0: no such queue, 1: removed.
local P = KEYS[1]
local there = redis.call('EXISTS', P .. ':q') + redis.call('HEXISTS', KEYS[2], ARGV[1])
if there == 0 then return 0 end
wake(P, 16)
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('UNLINK', P .. ':q', P .. ':l', P .. ':d', P .. ':b', P .. ':dlq', P .. ':w')
for p = 1, 10 do redis.call('UNLINK', P .. ':s:' .. p) end
return 1

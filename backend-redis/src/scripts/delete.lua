-- KEYS: queue, catalogue, version of the routes. ARGV: name, a new version. Removes everything that the queue has. Answers
-- 0: no such queue, 1: removed.
local P = KEYS[1]
local there = redis.call('EXISTS', P .. ':q') + redis.call('HEXISTS', KEYS[2], ARGV[1])
if there == 0 then return 0 end
wake(P, 16)
rouse(P, ':p', 16)
redis.call('HDEL', KEYS[2], ARGV[1])
for _, key in ipairs({ 'q', 'l', 'd', 'b', 'i', 'x', 'k', 'u', 'dlq', 'w', 'p' }) do redis.call('UNLINK', P .. ':' .. key) end
for p = 1, 10 do redis.call('UNLINK', P .. ':s:' .. p) end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[3])
elseif redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('SET', KEYS[3], ARGV[2])
end
return 1

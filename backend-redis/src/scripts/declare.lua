-- KEYS: queue, catalogue, version of the routes. ARGV: name, what the catalogue is expected to say of it or '', what it shall
-- say, the rules or '', a new version or '' when no route changes. Answers 1: done, with whatever was missing; else what the
-- catalogue says, and nothing was changed.
local P = KEYS[1]
local there = redis.call('HGET', KEYS[2], ARGV[1]) or ''
if there ~= ARGV[2] then return there end
for p = 1, 10 do
  local made = redis.pcall('XGROUP', 'CREATE', P .. ':s:' .. p, 'g', '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
end
redis.call('HSET', P .. ':q', 'v', '1')
if ARGV[4] == '' then
  redis.call('HDEL', P .. ':q', 'rules')
else
  redis.call('HSET', P .. ':q', 'rules', ARGV[4])
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
if ARGV[5] ~= '' then redis.call('SET', KEYS[3], ARGV[5]) end
return 1

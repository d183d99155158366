-- KEYS: the queue's, catalogue, version of the routes. ARGV: name, what the catalogue is expected to say of it or '', what it shall
-- say, the rules or '', a new version or '' when no route changes. Answers 1: done, with whatever was missing; else what the
-- catalogue says, and nothing was changed.
--- @include keys

local catalogue, version = KEYS[ALL + 1], KEYS[ALL + 2]
local there = redis.call('HGET', catalogue, ARGV[1]) or ''
if there ~= ARGV[2] then return there end
for p = 1, 10 do
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[p], 'g', '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
end
redis.call('HSET', KEYS[QUEUE], 'v', '1')
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[QUEUE], 'rules')
else
  redis.call('HSET', KEYS[QUEUE], 'rules', ARGV[4])
end
redis.call('HSET', catalogue, ARGV[1], ARGV[3])
if ARGV[5] ~= '' then redis.call('SET', version, ARGV[5]) end
return 1

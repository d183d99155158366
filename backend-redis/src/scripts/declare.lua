-- KEYS: the queue's, catalogue, version of the routes, what changed. ARGV: name, what the catalogue is expected to say of it or '',
-- what it shall say, the rules or '', a new epoch, whether a route changes, whether only a queue that is there is
-- meant, and of an unbinding the channel and what is said there. The version begins with an epoch, another one after the server has
-- lost everything. Answers { the version }: done, with whatever was missing; else what the catalogue says, and nothing was changed.
--- @include keys

local catalogue, version, changes = KEYS[ALL + 1], KEYS[ALL + 2], KEYS[ALL + 3]
local there = redis.call('HGET', catalogue, ARGV[1]) or ''
if there ~= ARGV[2] then return there end
local made_by = redis.call('HGET', KEYS[QUEUE], 'v')
if ARGV[7] == '1' and not made_by then return there end
if made_by and made_by ~= '1' then
  --- @include version
  return newer(KEYS[QUEUE], made_by)
end
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
local epoch = string.match(redis.call('GET', version) or '', '^[^.]+')
if not epoch or ARGV[6] == '1' then
  --- @include changes
  routes_changed(epoch or ARGV[5], ARGV[1])
end
if ARGV[8] then redis.call('PUBLISH', ARGV[8], ARGV[9]) end
return { redis.call('GET', version) }

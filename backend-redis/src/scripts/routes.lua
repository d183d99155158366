-- KEYS: catalogue, version of the routes, what changed. ARGV: the version that is known, or ''. Answers the version or '', whether what
-- follows is all, and { name, what the catalogue says of it or ''… }: of all queues, or of those that have changed since.
local catalogue, version, changes = KEYS[1], redis.call('GET', KEYS[2]) or '', KEYS[3]

-- The number of the version that is known, where `changes` is complete from it on.
local function known_number()
  local epoch, number = string.match(version, '^(.*)%.(%d+)$')
  local known_epoch, known = string.match(ARGV[1], '^(.*)%.(%d+)$')
  local complete = redis.call('ZSCORE', changes, '')
  local is_known = epoch and epoch == known_epoch and complete
  return is_known and tonumber(complete) <= tonumber(known) and tonumber(known) <= tonumber(number) and known
end

local known = known_number()
local names = known and redis.call('ZRANGEBYSCORE', changes, '(' .. known, '+inf', 'LIMIT', 0, 1001)
if not names or #names > 1000 then return { version, 1, redis.call('HGETALL', catalogue) } end
local found = {}
for i, name in ipairs(names) do
  found[2 * i - 1], found[2 * i] = name, redis.call('HGET', catalogue, name) or ''
end
return { version, 0, found }

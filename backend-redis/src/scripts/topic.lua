-- KEYS: those of each queue, version of the routes. ARGV: the version that the sender knows, how many sets of queues there are, each as
-- positions among the queues from 1 with spaces between, messages as of publish.lua, the shape with 1000000 × the number of its
-- set from 1 added. Each message goes to all queues of its set.
-- Answers, when nothing was stored, 1: the routes have changed, 2: a queue of the catalogue is not there; else as
-- publish.lua, four counts for each queue.
--- @include keys
--- @include library
--- @include placing

if (redis.call('GET', KEYS[#KEYS]) or '') ~= ARGV[1] then return 1 end
local targets, sets, counts = {}, {}, {}
for n = 1, (#KEYS - 1) / ALL do
  local target = target_of((n - 1) * ALL)
  if not target then return 2 end
  target.number = n
  targets[n] = target
end
for n = 1, tonumber(ARGV[2]) do
  sets[n] = {}
  for index in string.gmatch(ARGV[n + 2], '%d+') do table.insert(sets[n], targets[tonumber(index)]) end
end

local refused = place_all(3 + #sets, function(m) return sets[m.set] end)
for _, target in ipairs(targets) do finish(target, counts) end
return { counts, refused }

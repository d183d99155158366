-- KEYS: those of each queue, version of the routes. ARGV: the version that the sender knows, how many sets of queues there are
-- (and, after a space, how many bytes all copies have), each as
-- positions among the queues from 1 with spaces between, messages as of publish.lua, the shape with 1000000 × the number of its
-- set from 1 added. Each message goes to all queues of its set.
-- Answers, when nothing was stored, 1: the routes have changed, 2: a queue of the catalogue is not there; else as
-- publish.lua, four counts for each queue.
--- @include keys
--- @include library
--- @include placing

if (redis.call('GET', KEYS[#KEYS]) or '') ~= ARGV[1] then return 1 end
local number_of_sets, bytes = string.match(ARGV[2], '^(%d+) ?(%d*)$')

-- The server looks only before a script whether there is room.
bytes = tonumber(bytes) or 0
if bytes > 1024 * 1024 then
  local memory = redis.call('INFO', 'memory')
  local function field(name) return tonumber(string.match(memory, name .. ':(%d+)')) or 0 end
  local most, used = field('maxmemory'), field('used_memory')
  if most > 0 and bytes > most - used then
    return { err = 'OOM the copies have ' .. bytes .. ' bytes, more than the server has left' }
  end
end

local targets, sets, counts = {}, {}, {}
for n = 1, (#KEYS - 1) / ALL do
  local target = target_of((n - 1) * ALL)
  if not target then return 2 end
  target.number = n
  targets[n] = target
end
for n = 1, tonumber(number_of_sets) do
  sets[n] = {}
  for index in string.gmatch(ARGV[n + 2], '%d+') do table.insert(sets[n], targets[tonumber(index)]) end
end

local refused = place_all(3 + #sets, function(m) return sets[m.set] end)
for _, target in ipairs(targets) do finish(target, counts) end
return { counts, refused }

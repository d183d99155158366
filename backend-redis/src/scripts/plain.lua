-- KEYS: queue. ARGV: messages as of publish.lua that have nothing in brackets. Most are of this kind, and most queues have no
-- rules: here is nothing to think of. Answers 1: the queue has rules, nothing was stored; else as publish.lua.
local P = KEYS[1]
local found = redis.call('HMGET', P .. ':q', 'v', 'rules')
if not found[1] then return 0 end
if found[2] then return 1 end
local refused, streams = {}, {}
local i, last, position = 1, #ARGV, 0
for p = 1, 10 do streams[p] = P .. ':s:' .. p end

while i <= last do
  local shape = tonumber(ARGV[i])
  local others, stored = shape % 1000, nil
  if others == 0 then
    stored = redis.pcall('XADD', streams[math.floor(shape / 1000)], '*', 'v', '1', 'id', ARGV[i + 1], 't', ARGV[i + 2],
      'data', ARGV[i + 3])
  else
    stored = redis.pcall('XADD', streams[math.floor(shape / 1000)], '*', 'v', '1', 'id', ARGV[i + 1], 't', ARGV[i + 2],
      'data', unpack(ARGV, i + 3, i + 3 + others))
  end
  position = position + 1
  if type(stored) == 'table' and stored.err then
    local n = #refused
    refused[n + 1], refused[n + 2], refused[n + 3], refused[n + 4] = position, 'E', 1, stored.err
  end
  i = i + 4 + others
end

if position > 0 then wake(P, position > 16 and 16 or position) end
return { { 0, 0, 0, 0 }, refused }

-- KEYS: queue. ARGV: messages as of publish.lua that have nothing in brackets but a time to live. Most are of this kind, and most
-- queues have no rules: here is nothing to think of. Answers 1: the queue has rules, nothing was stored; else as publish.lua.
local P = KEYS[1]
local found = redis.call('HMGET', P .. ':q', 'v', 'rules', 'ps')
if not found[1] then return 0 end
if found[2] then return 1 end
local refused, expiring, streams, used, clock = {}, {}, {}, found[3] or '', nil
local i, last, position = 1, #ARGV, 0
local p, stream, stored, bytes

-- When one that lives for so long from now expires.
local function ends_after(lifetime)
  clock = clock or redis.call('TIME')
  return string.format('%.0f', clock[1] * 1000 + math.ceil(clock[2] / 1000) + lifetime)
end

while i <= last do
  local shape = tonumber(ARGV[i])
  local others = shape % 1000
  p = math.floor(shape / 1000) % 100
  stream = streams[p]
  if not stream then
    stream = P .. ':s:' .. p
    streams[p], used = stream, with_priority(P, used, p)
  end
  if shape >= 200000 then
    i = i + 1
    local ends = ends_after(ARGV[i])
    stored = redis.pcall('XADD', stream, '*', 'v', '1', 'id', ARGV[i + 1], 't', ARGV[i + 2], 'data', ARGV[i + 3],
      'e', ends, 'tl', ARGV[i], unpack(ARGV, i + 4, i + 3 + others))
    if type(stored) == 'string' then
      expiring[#expiring + 1] = ends
      expiring[#expiring + 1] = p .. ':' .. stored
    end
  elseif others == 0 then
    stored = redis.pcall('XADD', stream, '*', 'v', '1', 'id', ARGV[i + 1], 't', ARGV[i + 2], 'data', ARGV[i + 3])
  else
    stored = redis.pcall('XADD', stream, '*', 'v', '1', 'id', ARGV[i + 1], 't', ARGV[i + 2],
      'data', unpack(ARGV, i + 3, i + 3 + others))
  end
  position, bytes = position + 1, #ARGV[i + 3]
  if type(stored) == 'table' then
    local n = #refused
    refused[n + 1], refused[n + 2], refused[n + 3], refused[n + 4] = position, 'E', 1, stored.err
  end
  i = i + 4 + others
end

local given = false
if position == 1 and #refused == 0 then
  given = hand_over(P, p, stored, bytes, used, clock)
elseif position > 0 then
  wake(P, position > 16 and 16 or position)
end
if #expiring > 0 and not given then redis.call('ZADD', P .. ':x', unpack(expiring)) end
return { { 0, 0, 0, 0 }, refused }

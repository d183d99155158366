-- KEYS: the queue's, up to the messages that expire. ARGV: messages as of publish.lua that have nothing in brackets but a time
-- to live. Most are of this kind, and most queues have no rules: here is nothing to think of. Answers 1: the queue has rules,
-- nothing was stored; else as publish.lua.
--- @include keys
--- @include used

local found = redis.call('HMGET', KEYS[QUEUE], 'v', 'rules', 'ps')
if not found[1] then return 0 end
if found[1] ~= '1' then
  --- @include version
  return newer(KEYS[QUEUE], found[1])
end
if found[2] then return 1 end
local refused, expiring, used, clock = {}, {}, found[3] or '', nil
local i, last, position, seen = 1, #ARGV, 0, nil
local p, stored, bytes

-- When one that lives for so long from now expires.
local function ends_after(lifetime)
  clock = clock or redis.call('TIME')
  return string.format('%.0f', clock[1] * 1000 + math.ceil(clock[2] / 1000) + lifetime)
end

while i <= last do
  local shape = tonumber(ARGV[i])
  local others = shape % 1000
  p = math.floor(shape / 1000) % 100
  if p ~= seen then
    if p < 1 or p > 10 then error('a priority is 1 to 10') end
    used, seen = with_priority(0, used, p), p
  end
  local ends
  if shape >= 200000 then
    i = i + 1
    ends = ends_after(ARGV[i])
    stored = redis.pcall('XADD', KEYS[p], '*', 'v', '1', 'id', ARGV[i + 1], 't', ARGV[i + 2], 'data', ARGV[i + 3],
      'e', ends, 'tl', ARGV[i], unpack(ARGV, i + 4, i + 3 + others))
    if type(stored) == 'string' then
      expiring[#expiring + 1] = ends
      expiring[#expiring + 1] = p .. ':' .. stored
    end
  elseif others == 0 then
    stored = redis.pcall('XADD', KEYS[p], '*', 'v', '1', 'id', ARGV[i + 1], 't', ARGV[i + 2], 'data', ARGV[i + 3])
  else
    stored = redis.pcall('XADD', KEYS[p], '*', 'v', '1', 'id', ARGV[i + 1], 't', ARGV[i + 2],
      'data', unpack(ARGV, i + 3, i + 3 + others))
  end
  if type(stored) == 'table' and string.find(stored.err, 'exhausted', 1, true) then
    --- @include renew
    local timed = ends and { 'e', ends, 'tl', ARGV[i] } or {}
    local fields = { 't', ARGV[i + 2], 'data', unpack(ARGV, i + 3, i + 3 + others) }
    for n = 1, #timed do fields[#fields + 1] = timed[n] end
    if renew(KEYS[p]) then stored = redis.pcall('XADD', KEYS[p], '*', 'v', '1', 'id', ARGV[i + 1], unpack(fields)) end
    if ends and type(stored) == 'string' then
      expiring[#expiring + 1] = ends
      expiring[#expiring + 1] = p .. ':' .. stored
    end
  end
  position, bytes = position + 1, #ARGV[i + 3]
  if bytes > LARGE then note_large(0) end
  if type(stored) == 'table' then
    local n = #refused
    refused[n + 1], refused[n + 2], refused[n + 3], refused[n + 4] = position, 'E', 1, stored.err
  end
  i = i + 4 + others
end

-- Under load nobody waits, and all that follows is not even defined.
local pushed = false
if position > 0 and redis.call('EXISTS', KEYS[WAITERS]) == 1 then
  --- @include notify
  --- @include unread
  --- @include push
  if position == 1 and #refused == 0 then
    pushed = push(0, p, stored, bytes, used, clock)
  else
    wake(0, WAITERS, position)
  end
end
if #expiring > 0 and not pushed then redis.call('ZADD', KEYS[EXPIRING], unpack(expiring)) end
return { { 0, 0, 0, 0 }, refused }

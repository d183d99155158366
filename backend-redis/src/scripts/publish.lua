-- KEYS: queue. ARGV, for each message: shape, (delay in ms, uid,) id, time of publish, payload, other names and values. The
-- shape is 1000 × priority + how many other names and values, and 100000 more for one that has a delay and a uid. Few
-- arguments, for each costs as much as the rest of a small message.
-- Answers 0: no such queue; else for each message that was not stored its position from 1 and why.
local P = KEYS[1]
if redis.call('EXISTS', P .. ':q') == 0 then return 0 end
local refused, ready, delayed, streams = {}, 0, nil, {}
local i, last, position = 1, #ARGV, 0

for p = 1, 10 do streams[p] = P .. ':s:' .. p end

local function delay(p, ms, uid, first, final)
  local body = cmsgpack.pack({
    p, 'v', '1', 'id', ARGV[first], 't', ARGV[first + 1], 'data', ARGV[first + 2], unpack(ARGV, first + 3, final),
  })
  local stored = redis.pcall('HSET', P .. ':b', uid, body)
  if type(stored) == 'table' and stored.err then return stored end
  stored = redis.pcall('ZADD', P .. ':d', from + ms, uid)
  if type(stored) == 'table' and stored.err then redis.call('HDEL', P .. ':b', uid) end
  delayed = delayed or {}
  delayed[uid] = true
  return stored
end

while i <= last do
  local shape = tonumber(ARGV[i])
  local later, p, others = shape >= 100000, math.floor(shape / 1000) % 100, shape % 1000
  local first = later and i + 3 or i + 1
  local final = first + 2 + others
  local stored
  if later then
    stored = delay(p, tonumber(ARGV[i + 1]), ARGV[i + 2], first, final)
  elseif others == 0 then
    stored = redis.pcall('XADD', streams[p], '*', 'v', '1', 'id', ARGV[first], 't', ARGV[first + 1],
      'data', ARGV[first + 2])
    ready = ready + 1
  else
    stored = redis.pcall('XADD', streams[p], '*', 'v', '1', 'id', ARGV[first], 't', ARGV[first + 1],
      'data', ARGV[first + 2], unpack(ARGV, first + 3, final))
    ready = ready + 1
  end
  position = position + 1
  if type(stored) == 'table' and stored.err then
    refused[#refused + 1] = position
    refused[#refused + 1] = stored.err
  end
  i = final + 1
end

-- A new earliest due time is news for somebody who sleeps until the old one.
if delayed and delayed[redis.call('ZRANGE', P .. ':d', 0, 0)[1]] then ready = ready + 1 end
if ready > 0 then wake(P, ready > 16 and 16 or ready) end
return refused

-- KEYS: queue. ARGV, for each message: priority, delay in ms, uid (of a delayed one), number of names and values, these.
-- Answers 0: no such queue; else for each message that was not stored its position from 1 and why.
local P = KEYS[1]
if redis.call('EXISTS', P .. ':q') == 0 then return 0 end
local refused, ready, delayed = {}, 0, nil
local i, last, position = 1, #ARGV, 0

local function delay(p, ms, uid, first, final)
  local body = cmsgpack.pack({ p, unpack(ARGV, first, final) })
  local stored = redis.pcall('HSET', P .. ':b', uid, body)
  if type(stored) == 'table' and stored.err then return stored end
  stored = redis.pcall('ZADD', P .. ':d', from + ms, uid)
  if type(stored) == 'table' and stored.err then redis.call('HDEL', P .. ':b', uid) end
  delayed = delayed or {}
  delayed[uid] = true
  return stored
end

while i <= last do
  local p, ms, uid, count = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], tonumber(ARGV[i + 3])
  local first, final = i + 4, i + 3 + count
  position = position + 1
  local stored
  if ms == 0 then
    stored = redis.pcall('XADD', P .. ':s:' .. p, '*', unpack(ARGV, first, final))
    ready = ready + 1
  else
    stored = delay(p, ms, uid, first, final)
  end
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

-- Where a message waits: ready in the stream of its priority, or for its time.

-- Makes it ready, at the end of its priority. Answers like `pcall`.
local function make_ready(P, p, fields)
  local stored = redis.pcall('XADD', P .. ':s:' .. p, '*', unpack(fields))
  if failed(stored) then return stored end
  local ends = expiry(fields)
  if ends then redis.call('ZADD', P .. ':x', ends, p .. ':' .. stored) end
  return stored
end

-- Puts it off until `due`, under a name of its own. Answers like `pcall`.
local function put_off(P, p, fields, due, uid)
  local stored = redis.pcall('HSET', P .. ':b', uid, cmsgpack.pack({ p, unpack(fields) }))
  if failed(stored) then return stored end
  stored = redis.pcall('ZADD', P .. ':d', due, uid)
  if failed(stored) then
    redis.call('HDEL', P .. ':b', uid)
    return stored
  end
  local id = get(fields, 'id')
  return id and redis.pcall('HSET', P .. ':i', id, uid) or stored
end

-- The priority and the fields of one that was put off; nothing for what none of us wrote.
local function opened(body)
  local read, entry = pcall(cmsgpack.unpack, body)
  local sound = read and type(entry) == 'table' and #entry > 2 and #entry % 2 == 1
  local p = sound and tonumber(entry[1])
  if p and p >= 1 and p <= 10 then return p, { unpack(entry, 2) } end
end

-- It waits no longer.
local function forget_waiting(P, uid, fields)
  redis.call('ZREM', P .. ':d', uid)
  redis.call('HDEL', P .. ':b', uid)
  local id = fields and get(fields, 'id')
  if id and redis.call('HGET', P .. ':i', id) == uid then redis.call('HDEL', P .. ':i', id) end
end

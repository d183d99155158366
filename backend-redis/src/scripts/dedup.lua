-- The keys that a queue remembers: whose each is, and when it is free again.
local function owner(P, key)
  local ends = redis.call('ZSCORE', P .. ':k', key)
  return ends and tonumber(ends) > now and redis.call('HGET', P .. ':u', key)
end

local function remember(P, key, id, window)
  redis.call('ZADD', P .. ':k', from + window, key)
  redis.call('HSET', P .. ':u', key, id)
end

-- Frees the key of an entry, unless another message has it by now.
local function free(P, fields, id)
  local key = get(fields, 'dk')
  if key and redis.call('HGET', P .. ':u', key) == (get(fields, 'id') or id) then
    redis.call('HDEL', P .. ':u', key)
    redis.call('ZREM', P .. ':k', key)
  end
end

-- Forgets keys whose window has ended: 100 at most.
local function forget_ended(P)
  local ended = redis.call('ZRANGEBYSCORE', P .. ':k', '-inf', now, 'LIMIT', 0, 100)
  if #ended == 0 then return end
  redis.call('ZREM', P .. ':k', unpack(ended))
  redis.call('HDEL', P .. ':u', unpack(ended))
end

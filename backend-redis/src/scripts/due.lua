-- Applies what is due: at most 100 entries or about 8 MiB of each kind a call, so that no call is long.
local K, BYTES = 100, 8 * 1024 * 1024

local function size(fields)
  return #(get(fields, 'data') or '')
end

-- Delayed messages whose time has come go to the end of their priority. Answers how many were due and how many are ready.
local function promote(P, now)
  local due = redis.call('ZRANGEBYSCORE', P .. ':d', '-inf', now, 'LIMIT', 0, K)
  local ready, bytes = 0, 0
  for i, uid in ipairs(due) do
    local body = redis.call('HGET', P .. ':b', uid)
    if body then
      local read, entry = pcall(cmsgpack.unpack, body)
      local sound = read and type(entry) == 'table' and #entry > 2 and #entry % 2 == 1
      local p = sound and tonumber(entry[1])
      if p and p >= 1 and p <= 10 then
        redis.call('XADD', P .. ':s:' .. p, '*', unpack(entry, 2))
        ready = ready + 1
      else
        redis.call('XADD', P .. ':dlq', '*', 'dr', 'undecodable', 'de', 'not a delayed message', 'da', 0, 'dt', 0,
          'dc', '', 'do', '0-0', 'dp', 5, 'raw', body)
      end
      bytes = bytes + #body
    end
    redis.call('ZREM', P .. ':d', uid)
    redis.call('HDEL', P .. ':b', uid)
    if bytes > BYTES then return K, ready end
  end
  return #due, ready
end

-- Messages whose lease has ended have failed once more: the end of their priority again, or the dead letters.
local function reap(P, now)
  local ended = redis.call('ZRANGEBYSCORE', P .. ':l', '-inf', now, 'LIMIT', 0, K)
  local ready, bytes = 0, 0
  for i, member in ipairs(ended) do
    local p, id, max, consumer = lease_parts(member)
    local entry = p and redis.call('XRANGE', P .. ':s:' .. p, id, id)[1]
    if entry then
      local fields = entry[2]
      local attempts = count(fields, 'a') + 1
      if attempts >= max then
        local done = bury(P, p, id, fields, 'max_attempts', 'the lease ended without a verdict', attempts, consumer)
        if done.err then error(done.err) end
      else
        redis.call('XADD', P .. ':s:' .. p, '*', unpack(kept(fields, id, { a = attempts })))
        ready = ready + 1
      end
      redis.call('XDEL', P .. ':s:' .. p, id)
      bytes = bytes + size(fields)
    end
    redis.call('ZREM', P .. ':l', member)
    if bytes > BYTES then return K, ready end
  end
  return #ended, ready
end

-- Both. Answers whether there may be more, and how many are ready again.
local function apply_due(P, now)
  local due, promoted = promote(P, now)
  local ended, reaped = reap(P, now)
  return due == K or ended == K, promoted + reaped
end

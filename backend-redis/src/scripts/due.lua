-- Applies what is due: at most 100 entries or about 8 MiB of each kind a call, so that no call is long.

-- When the first of a sorted set of times comes.
local function first_time(key)
  return tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]) or math.huge
end

-- Delayed messages whose time has come go to the end of their priority. Answers how many were due and how many are ready;
-- when none was, also when the first will be.
local function promote(P)
  local first = first_time(P .. ':d')
  if first > now then return 0, 0, first end
  local due = redis.call('ZRANGEBYSCORE', P .. ':d', '-inf', now, 'LIMIT', 0, K)
  local ready, bytes = 0, 0
  for _, uid in ipairs(due) do
    local body = redis.call('HGET', P .. ':b', uid)
    local p, fields = opened(body or '')
    local ends = p and expiry(fields)
    if ends and ends <= now then
      must(bury(P, p, '0-0', fields, 'expired', 'expired', count(fields, 'a'), ''))
    elseif p then
      must(make_ready(P, p, fields))
      ready = ready + 1
    elseif body then
      redis.call('XADD', P .. ':dlq', '*', 'dr', 'undecodable', 'de', 'not a delayed message', 'da', 0, 'dt', 0,
        'dc', '', 'do', '0-0', 'dp', 5, 'raw', body)
    end
    forget_waiting(P, uid, fields)
    bytes = bytes + #(body or '')
    if bytes > BYTES then return K, ready end
  end
  return #due, ready
end

-- Messages whose lease has ended have failed once more: the end of their priority again, or the dead letters. Answers as
-- `promote`.
local function reap(P)
  local first = first_time(P .. ':l')
  if first > now then return 0, 0, first end
  local ended = redis.call('ZRANGEBYSCORE', P .. ':l', '-inf', now, 'LIMIT', 0, K)
  local ready, bytes = 0, 0
  for _, member in ipairs(ended) do
    local p, id, max, consumer = lease_parts(member)
    local entry = p and redis.call('XRANGE', P .. ':s:' .. p, id, id)[1]
    if entry then
      local fields = entry[2]
      local attempts, ends = count(fields, 'a') + 1, expiry(fields)
      if attempts >= max then
        local text = 'the lease ended without a verdict'
        must(bury(P, p, id, fields, 'max_attempts', text, attempts, consumer))
      elseif ends and ends <= now then
        must(bury(P, p, id, fields, 'expired', 'expired', attempts, consumer))
      else
        must(make_ready(P, p, kept(fields, id, { a = attempts })))
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

-- Ready messages whose time to live has ended. Answers how many.
local function expire(P)
  local ended = redis.call('ZRANGEBYSCORE', P .. ':x', '-inf', now, 'LIMIT', 0, K)
  local bytes = 0
  for _, member in ipairs(ended) do
    local p, id = string.match(member, '^(%d+):(%d+%-%d+)$')
    local entry = p and redis.call('XRANGE', P .. ':s:' .. p, id, id)[1]
    local ends = entry and expiry(entry[2])
    if ends and ends <= now then
      must(bury(P, p, id, entry[2], 'expired', 'expired', count(entry[2], 'a'), ''))
      redis.call('XDEL', P .. ':s:' .. p, id)
      bytes = bytes + size(entry[2])
    end
    redis.call('ZREM', P .. ':x', member)
    if bytes > BYTES then return K end
  end
  return #ended
end

-- All of it, keys and dead letters that are not to be kept included. Answers whether there may be more, how many are ready
-- again, and, when none is, when the next will be.
local function apply_due(P, rules)
  local due, promoted, next_due = promote(P)
  local ended, reaped, next_end = reap(P)
  local expired = expire(P)
  if rules.dedup then forget_ended(P) end
  local letters = retain(P, rules.dead)
  local more = due == K or ended == K or expired == K or letters
  return more, promoted + reaped, next_due and next_end and math.min(next_due, next_end)
end

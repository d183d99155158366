-- KEYS: the queue's. ARGV: `waiting` or `dead`, ms up to which entries are meant or ''. Spares what is in flight.
-- Answers 0: no such queue; else { more, how many were removed, the ms to give the next call, letters dropped before that }.
--- @include keys
--- @include library
--- @include cursor

local rules = rules_of(0)
if not rules then return 0 end
if ARGV[1] == 'dead' then
  local dead = redis.call('XLEN', KEYS[DEAD])
  redis.call('UNLINK', KEYS[DEAD])
  return { 0, dead, '', 0 }
end

-- Up to the newest entry that is there, should the clock have been put back since.
local function newest()
  local latest = now
  for p = 1, 10 do
    local entry = redis.call('XREVRANGE', KEYS[p], '+', '-', 'COUNT', 1)[1]
    if entry then latest = math.max(latest, tonumber(string.match(entry[1], '^%d+'))) end
  end
  return time_text(latest)
end

local first, bound = ARGV[2] == '', ARGV[2] ~= '' and ARGV[2] or newest()
local function answer(more, removed)
  return { more, removed, bound, dropped[0] or 0 }
end
local more = apply_due(0, rules)
if more then return answer(1, 0) end

-- Delayed ones at once, unless each has to be looked at for its key.
local function remove_waiting(budget)
  local waiting = redis.call('ZCARD', KEYS[DUE])
  if not rules.dedup then
    redis.call('UNLINK', KEYS[DUE], KEYS[BODIES], KEYS[DELAYED])
    return waiting
  end
  local uids = redis.call('ZRANGE', KEYS[DUE], 0, budget - 1)
  for _, uid in ipairs(uids) do
    local _, fields = read_delayed(redis.call('HGET', KEYS[BODIES], uid) or '')
    if fields then free_key(0, fields, '') end
    forget_delayed(0, uid, fields)
  end
  return #uids, waiting > #uids
end

-- Entry by entry where some are in flight, for these stand in the same stream, or have keys.
local function sweep(p, key, read, budget)
  local swept, bytes, step = 0, 0, 10
  local expires = redis.call('EXISTS', KEYS[EXPIRING]) == 1
  while swept < budget and bytes < BYTES do
    local entries = read ~= LAST and redis.call('XRANGE', key, '(' .. read, bound, 'COUNT', step) or {}
    if #entries == 0 then return swept, false end
    local ids, members = {}, {}
    for i, entry in ipairs(entries) do
      ids[i], members[i] = entry[1], p .. ':' .. entry[1]
      bytes = bytes + size(entry[2])
      if rules.dedup then free_key(0, entry[2], entry[1]) end
    end
    step = bytes > BYTES / 8 and 10 or 100
    if expires then redis.call('ZREM', KEYS[EXPIRING], unpack(members)) end
    swept = swept + redis.call('XDEL', key, unpack(ids))
  end
  return swept, true
end

-- What was put back is ready, though it was read.
local function remove_put_back()
  local leases, bytes = redis.call('ZRANGEBYSCORE', KEYS[LEASES], '-inf', BACK, 'LIMIT', 0, K), 0
  for n, lease in ipairs(leases) do
    local p, id = lease_parts(lease)
    local entry = p and redis.call('XRANGE', KEYS[p], id, id)[1]
    if entry then
      free_key(0, entry[2], id)
      redis.call('XDEL', KEYS[p], id)
      redis.call('ZREM', KEYS[EXPIRING], p .. ':' .. id)
      bytes = bytes + size(entry[2])
    end
    redis.call('ZREM', KEYS[LEASES], lease)
    if bytes > BYTES then return n, true end
  end
  return #leases, #leases == K
end

local back, more_back = remove_put_back()
if more_back then return answer(1, back) end
local budget = rules.dedup and 100 or 2000
local removed, unfinished = remove_waiting(budget)
removed = removed + back
if unfinished then return answer(1, removed) end
if rules.dedup then budget = math.max(1, budget - removed) end
for p = 1, 10 do
  local key = KEYS[p]
  local length = redis.call('XLEN', key)
  if length > 0 then
    local read = last_read(key)
    if not rules.dedup and #redis.call('XRANGE', key, '-', read, 'COUNT', 1) == 0 then
      redis.call('UNLINK', key)
      redis.call('XGROUP', 'CREATE', key, 'g', '0', 'MKSTREAM')
      removed = removed + length
    else
      local swept, unfinished = sweep(p, key, read, budget)
      removed, budget = removed + swept, budget - swept
      if unfinished then return answer(1, removed) end
    end
  end
end
-- In one call nothing came in between: no ready message is left that could expire.
if first then redis.call('UNLINK', KEYS[EXPIRING]) end
if removed > 0 then wake(0, PUBLISHERS, removed) end
return answer(0, removed)

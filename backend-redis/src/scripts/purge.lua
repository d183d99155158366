-- KEYS: queue. ARGV: `waiting` or `dead`, ms up to which entries are meant or ''. Spares what is in flight.
-- Answers 0: no such queue; else { more, how many were removed, the ms to give the next call }.
local P = KEYS[1]
if redis.call('EXISTS', P .. ':q') == 0 then return 0 end
if ARGV[1] == 'dead' then
  local dead = redis.call('XLEN', P .. ':dlq')
  redis.call('UNLINK', P .. ':dlq')
  return { 0, dead, '' }
end

local bound = ARGV[2] ~= '' and ARGV[2] or string.format('%.0f', now)
local more, ready = apply_due(P, now)
if more then return { 1, 0, bound } end
local removed = redis.call('ZCARD', P .. ':d')
redis.call('UNLINK', P .. ':d', P .. ':b')

-- Entry by entry where some are in flight, for these stand in the same stream.
local function sweep(key, read, budget)
  local swept, bytes = 0, 0
  while swept < budget and bytes < BYTES do
    local entries = redis.call('XRANGE', key, '(' .. read, bound, 'COUNT', 10)
    if #entries == 0 then return swept, false end
    local ids = {}
    for i, entry in ipairs(entries) do
      ids[i] = entry[1]
      bytes = bytes + size(entry[2])
    end
    swept = swept + redis.call('XDEL', key, unpack(ids))
  end
  return swept, true
end

local budget = 100
for p = 1, 10 do
  local key = P .. ':s:' .. p
  local length = redis.call('XLEN', key)
  if length > 0 then
    local read = last_read(key)
    if #redis.call('XRANGE', key, '-', read, 'COUNT', 1) == 0 then
      redis.call('UNLINK', key)
      redis.call('XGROUP', 'CREATE', key, 'g', '0', 'MKSTREAM')
      removed = removed + length
    else
      local swept, unfinished = sweep(key, read, budget)
      removed, budget = removed + swept, budget - swept
      if unfinished then return { 1, removed, bound } end
    end
  end
end
return { 0, removed, bound }

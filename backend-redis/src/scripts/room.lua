-- The room in a queue that was declared with a bound.

-- How many messages are ready, after what is due was applied; counted once a call, kept up afterwards.
local function length(target)
  if not target.length then
    local P = target.P
    local _, ready = apply_due(P, target.rules)
    target.news = target.news + ready
    local entries = 0
    for p = 1, 10 do entries = entries + redis.call('XLEN', P .. ':s:' .. p) end
    target.length = entries - redis.call('ZCOUNT', P .. ':l', '(' .. now, '+inf')
      + redis.call('ZCOUNT', P .. ':d', '-inf', now) - redis.call('ZCOUNT', P .. ':x', '-inf', now)
  end
  return target.length
end

-- The first that has no room, of those that refuse, and of those that make the publisher wait.
local function without_room(targets)
  local refuses, waits
  for _, target in ipairs(targets) do
    local bound = target.rules.bound
    if bound and length(target) >= bound.max_len then
      if bound.overflow == 'reject' then refuses = refuses or target end
      if bound.overflow == 'block' then waits = waits or target end
    end
  end
  return refuses, waits
end

-- The oldest of the lowest priority makes room for another.
local function make_room(target)
  local P = target.P
  for p = 1, 10 do
    local key = P .. ':s:' .. p
    local id = redis.call('XLEN', key) > 0 and first_unread(key)
    if id then
      local fields = redis.call('XRANGE', key, id, id)[1][2]
      must(bury(P, p, id, fields, 'overflow', 'dropped to make room', count(fields, 'a'), ''))
      redis.call('XDEL', key, id)
      redis.call('ZREM', P .. ':x', p .. ':' .. id)
      target.length, target.overflowed = target.length - 1, target.overflowed + 1
      return
    end
  end
end

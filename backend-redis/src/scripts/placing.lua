-- Puts a message into all of its queues, or into none. Needs: keys, library. Defines, in
-- this order: without_room, target_of, finish, place_all.
--- @include cursor
--- @include unread
--- @include used
--- @include push

-- How many messages are ready, after what is due was applied; counted once a call, kept up afterwards.
local function length(target)
  if not target.length then
    local at = target.at
    local _, ready = apply_due(at, target.rules)
    target.news = target.news + ready
    local entries = 0
    for p = 1, 10 do entries = entries + redis.call('XLEN', KEYS[at + p]) end
    target.length = entries - redis.call('ZCOUNT', KEYS[at + LEASES], '(' .. now, '+inf')
      + redis.call('ZCOUNT', KEYS[at + DUE], '-inf', now) - redis.call('ZCOUNT', KEYS[at + EXPIRING], '-inf', now)
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
local function drop_oldest(target)
  local at = target.at
  for p = 1, 10 do
    local key = KEYS[at + p]
    local id, lease
    if redis.call('XLEN', key) > 0 then id, lease = first_ready(at, p) end
    if id then
      if lease then redis.call('ZREM', KEYS[at + LEASES], lease) end
      local fields = redis.call('XRANGE', key, id, id)[1][2]
      must(dead_letter(at, p, id, fields, 'overflow', 'dropped to make room', count(fields, 'a'), ''))
      redis.call('XDEL', key, id)
      redis.call('ZREM', KEYS[at + EXPIRING], p .. ':' .. id)
      target.length, target.overflowed = target.length - 1, target.overflowed + 1
      return
    end
  end
end

-- A queue that a call publishes to: what it was declared to be, and what the call does to it. Nothing for one that is not
-- declared.
local function target_of(at)
  local rules, used = rules_of(at)
  if not rules then return end
  return { at = at, rules = rules, used = used, news = 0, duplicates = 0, overflowed = 0 }
end

-- Tells its consumers, and says what was done: whether it makes publishers wait, duplicates, messages dropped to make room,
-- letters that are not kept.
local function finish(target, counts)
  local at, bound = target.at, target.rules.bound
  -- A new earliest due time is news for somebody who sleeps until the old one.
  if target.delayed and target.delayed[redis.call('ZRANGE', KEYS[at + DUE], 0, 0)[1]] then target.news = target.news + 1 end
  local newest = target.newest
  if target.news == 1 and newest and not failed(newest.id) then
    local given = push(at, newest.p, newest.id, newest.bytes, target.used, clock)
    if given then redis.call('ZREM', KEYS[at + EXPIRING], newest.p .. ':' .. newest.id) end
  elseif target.news > 0 then
    wake(at, WAITERS, target.news)
  end
  if target.overflowed > 0 then retain(at, target.rules.dead) end
  local n = #counts
  counts[n + 1], counts[n + 2] = bound and bound.overflow == 'block' and 1 or 0, target.duplicates
  counts[n + 3], counts[n + 4] = target.overflowed, dropped[at] or 0
end

-- Reads the message at a position of ARGV: answers it, and where the next one begins.
local function message_at(i)
  local shape = tonumber(ARGV[i])
  local flags = math.floor(shape / 100000) % 10
  local m = { p = math.floor(shape / 1000) % 100, set = math.floor(shape / 1000000) }
  i = i + 1
  if flags % 2 == 1 then m.delay, m.uid, i = tonumber(ARGV[i]), ARGV[i + 1], i + 2 end
  if math.floor(flags / 2) % 2 == 1 then m.lifetime, i = ARGV[i], i + 1 end
  if flags >= 4 then m.key, i = ARGV[i], i + 1 end
  if m.p < 1 or m.p > 10 then error('a priority is 1 to 10') end
  local final = i + 2 + shape % 1000
  m.id = ARGV[i]
  m.fields = { 'v', '1', 'id', m.id, 't', ARGV[i + 1], 'data', unpack(ARGV, i + 2, final) }
  local n = #m.fields
  if m.lifetime then
    m.ends = time_text(from + tonumber(m.lifetime))
    m.fields[n + 1], m.fields[n + 2], m.fields[n + 3], m.fields[n + 4] = 'e', m.ends, 'tl', m.lifetime
    n = n + 4
  end
  if m.key then m.fields[n + 1], m.fields[n + 2] = 'dk', m.key end
  return m, final + 1
end

-- Writes one copy. Answers like `pcall`.
local function write(target, m)
  local at, rules, stored = target.at, target.rules, nil
  target.used = with_priority(at, target.used, m.p)
  if #m.fields[8] > LARGE then note_large(at) end
  if m.delay then
    stored = put_off(at, m.p, m.fields, from + m.delay, m.uid)
    target.delayed = target.delayed or {}
    target.delayed[m.uid] = true
  else
    stored = append(KEYS[at + m.p], nil, unpack(m.fields))
    target.news, target.newest = target.news + 1, { p = m.p, id = stored, bytes = #m.fields[8] }
  end
  if rules == NONE and not m.ends or failed(stored) then return stored end
  if m.ends and not m.delay then redis.call('ZADD', KEYS[at + EXPIRING], m.ends, m.p .. ':' .. stored) end
  if m.key and rules.dedup then remember_key(at, m.key, m.id, rules.dedup.window_ms) end
  if rules.bound and not m.delay then
    target.length = length(target) + 1
    if rules.bound.overflow == 'drop_oldest' and target.length > rules.bound.max_len then drop_oldest(target) end
  end
  return stored
end

-- The queues that do not have its key, and whose it is in another; nothing when none keeps keys.
local function not_held(targets, m)
  if not m.key then return targets end
  local open, first, keeps = {}, nil, false
  for _, target in ipairs(targets) do
    keeps = keeps or target.rules.dedup
    local held = target.rules.dedup and key_owner(target.at, m.key)
    if held then first = first or held else open[#open + 1] = target end
  end
  if keeps then return open, first end
end

-- Once one has to wait, so have all that come after it in the same call.
local waits

-- Answers nothing for a message that is stored; else why not (E an error, U one after some copies were written, D duplicate,
-- F full, W wait for room, K no queue keeps keys), the number of the queue that says so, and what belongs to it.
local function place(targets, m)
  if waits then return 'W', waits.number, '' end
  local open, first = not_held(targets, m)
  if not open then return 'K', targets[1].number, '' end
  if not m.delay then
    local refuses
    refuses, waits = without_room(open)
    if refuses then
      waits = nil
      return 'F', refuses.number, time_text(refuses.rules.bound.max_len)
    end
    if waits then return 'W', waits.number, '' end
  end
  for i, target in ipairs(open) do
    local stored = write(target, m)
    if failed(stored) then return i > 1 and 'U' or 'E', target.number, stored.err end
  end
  if not first then return end
  for _, target in ipairs(targets) do
    local had = true
    for _, other in ipairs(open) do had = had and other ~= target end
    if had then target.duplicates = target.duplicates + 1 end
  end
  if #open == 0 then return 'D', 1, first end
end

-- Places the messages from a position of ARGV on. Answers four entries for each that was not stored.
local function place_all(i, targets_of)
  local refused, last, position = {}, #ARGV, 0
  while i <= last do
    local m
    m, i = message_at(i)
    position = position + 1
    local code, number, detail = place(targets_of(m), m)
    if code then
      local n = #refused
      refused[n + 1], refused[n + 2], refused[n + 3], refused[n + 4] = position, code, number, detail
    end
  end
  return refused
end

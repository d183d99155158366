-- KEYS: the queue's. ARGV: how many, lease in ms, nonce, waiter or '', default maximum of attempts, consumer, whether little is
-- expected.
-- Answers 0: no such queue; else { full, more due now, µs until something is due or -1, how many consumers wait, how many
-- letters were dropped, the time, whether the waiter was known, { priority, id, max, fields }… }; what is due and the crowd are
-- told when there is nothing.
--- @include keys
--- @include time
--- @include unread

local found = redis.call('HMGET', KEYS[QUEUE], 'v', 'rules')
if not found[1] then return 0 end
local rules = found[2] and cjson.decode(found[2]) or {}
local want, lease, nonce, waiter, default, consumer, sparse =
  tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7] == '1'
local got, leases, expiring, left, buried = {}, {}, {}, want, 0

-- What is due is applied first. Mostly nothing is, and its definitions are not even made.
local slow
local function slow_path()
  if not slow then
    --- @include library
    slow = { apply_due = apply_due, dead_letter = dead_letter, must = must, dropped = dropped }
  end
  return slow
end

local function first_time(set)
  return tonumber(redis.call('ZRANGE', KEYS[set], 0, 0, 'WITHSCORES')[2]) or math.huge
end

local due, ended, expired = first_time(DUE), first_time(LEASES), first_time(EXPIRING)
local soonest, more = math.min(due, ended), false
if soonest <= now or expired <= now or rules.dedup or rules.dead then
  local _
  more, _, soonest = slow_path().apply_due(0, rules)
end

-- A number of ours in a field, of so many digits at most; what is none of ours is none.
local function number(text, digits)
  return #text <= digits and string.find(text, '^%d+$') and tonumber(text) or nil
end

-- Gives a message to the caller. One that has expired, or has had its attempts under a larger maximum, is a dead letter.
local function take(p, key, id, fields)
  local failures, max, ends, last_error, bytes = 0, default, nil, '', 0
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'a' then failures = number(value, 9) or 0 end
    if name == 'x' then max = number(value, 9) or default end
    if name == 'e' then ends = number(value, 14) end
    if name == 'le' then last_error = value end
    if name == 'data' then bytes = #value end
  end
  if ends then expiring[#expiring + 1] = p .. ':' .. id end
  local is_over, is_worn = ends and ends <= now, failures > 0 and failures >= max
  if is_over or is_worn then
    local reason, text = is_over and 'expired' or 'max_attempts', is_over and 'expired' or last_error
    slow_path().must(slow.dead_letter(0, p, id, fields, reason, text, failures, ''))
    redis.call('XDEL', key, id)
    buried = buried + 1
    return bytes
  end
  max = string.format('%.0f', math.max(1, max))
  leases[#leases + 1] = from + lease
  leases[#leases + 1] = p .. ':' .. id .. ':' .. nonce .. ':' .. max .. ':' .. consumer
  got[#got + 1] = { p, id, max, fields }
  left = left - 1
  return bytes
end

-- About 8 MiB, and 100 messages for the dead letters, are enough for one call.
local bytes, full = 0, false

-- Hands out what was read. What was read beyond goes back: the cursor is put where it was.
local function hand_out(p, key, entries)
  for _, entry in ipairs(entries) do
    if full or left == 0 then
      return unread_from(key, entry[1])
    end
    bytes = bytes + take(p, key, entry[1], entry[2])
    full = bytes >= 8 * 1024 * 1024 or buried >= 100
  end
end

-- All that one priority has.
local function exhaust(p, key)
  local step = 4
  while left > 0 and not full do
    local asked = math.min(left, step)
    local entries = read(key, asked)
    hand_out(p, key, entries)
    if #entries < asked then return end
    step = step * 2
  end
end

-- Where there is little, one look at the first of all priorities finds it; where there is much, only what is taken is read.
local firsts
if sparse and left > 0 then
  local keys = {}
  for p = 10, 1, -1 do keys[11 - p] = KEYS[p] end
  firsts = read_each(keys)
end
for p = 10, 1, -1 do
  local key = KEYS[p]
  if firsts and firsts[key] then hand_out(p, key, { firsts[key] }) end
  if not firsts or firsts[key] then exhaust(p, key) end
end
full = full or left == 0
if #leases > 0 then redis.call('ZADD', KEYS[LEASES], unpack(leases)) end
for i = 1, #expiring, 100 do redis.call('ZREM', KEYS[EXPIRING], unpack(expiring, i, math.min(#expiring, i + 99))) end

-- Publishers that wait for room are woken; who has found something waits no longer; there may be more for somebody else.
local has_found, known = #got > 0 or full, 0
local frees_room = #got > 0 and rules.bound and rules.bound.overflow == 'block'
if has_found and waiter ~= '' then known = redis.call('ZREM', KEYS[WAITERS], waiter) end
if frees_room or full then
  --- @include notify
  if frees_room then wake(0, PUBLISHERS, #got) end
  if full then wake(0, WAITERS, 1) end
end
local dropped = slow and slow.dropped[0] or 0
if has_found or want == 0 then return { full and 1 or 0, more and 1 or 0, -1, 0, dropped, from, known, unpack(got) } end

local crowd = redis.call('ZCARD', KEYS[WAITERS])
if waiter ~= '' then
  -- The dead among few do no harm.
  if crowd > 16 then redis.call('ZREMRANGEBYSCORE', KEYS[WAITERS], '-inf', now - 60000) end
  known = 1 - redis.call('ZADD', KEYS[WAITERS], now, waiter)
end
soonest = soonest or math.min(first_time(DUE), first_time(LEASES))
local wait = soonest < math.huge and math.max(0, (soonest - clock[1] * 1000) * 1000 - clock[2]) or -1
return { 0, more and 1 or 0, wait, crowd, dropped, from, known }

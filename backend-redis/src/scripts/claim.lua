-- KEYS: queue. ARGV: how many, lease in ms, nonce, waiter or '', default maximum of attempts, consumer, whether little is
-- expected.
-- Answers 0: no such queue; else { full, more due now, µs until something is due or -1, how many consumers wait, how many
-- letters were dropped, the time, whether the waiter was known, { priority, id, max, fields }… }; what is due and the crowd are
-- told when there is nothing.
local P = KEYS[1]
local rules = rules_of(P)
if not rules then return 0 end
local want, lease, nonce, waiter, default, consumer, sparse =
  tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7] == '1'
local more, _, soonest = apply_due(P, rules)
local got, leases, expiring, left, buried = {}, {}, {}, want, 0

-- Why a message is not to be handed out any more, if so.
local function end_of(fields, failures, max, ends)
  if ends and ends <= now then return 'expired', 'expired' end
  if failures > 0 and failures >= max then return 'max_attempts', get(fields, 'le') or '' end
end

-- Gives a message to the caller, or buries one that has expired, or has had its attempts under a larger maximum.
local function take(p, key, id, fields)
  local failures, max, ends = 0, default, nil
  for i = 1, #fields, 2 do
    if fields[i] == 'a' then failures = whole(fields[i + 1]) or 0 end
    if fields[i] == 'x' then max = whole(fields[i + 1]) or default end
    if fields[i] == 'e' then ends = ms(fields[i + 1]) end
  end
  if ends then expiring[#expiring + 1] = p .. ':' .. id end
  local reason, text = end_of(fields, failures, max, ends)
  if reason then
    must(bury(P, p, id, fields, reason, text, failures, ''))
    redis.call('XDEL', key, id)
    buried = buried + 1
    return
  end
  max = string.format('%.0f', math.max(1, max))
  leases[#leases + 1] = from + lease
  leases[#leases + 1] = p .. ':' .. id .. ':' .. nonce .. ':' .. max .. ':' .. consumer
  got[#got + 1] = { p, id, max, fields }
  left = left - 1
end

-- About 8 MiB, and 100 messages for the dead letters, are enough for one call.
local bytes, full = 0, false

-- Hands out what was read. What was read beyond goes back: the cursor is put where it was.
local function hand_out(p, key, entries)
  for i, entry in ipairs(entries) do
    if full or left == 0 then
      return unread_from(key, entry[1])
    end
    take(p, key, entry[1], entry[2])
    bytes = bytes + size(entry[2])
    full = bytes >= BYTES or buried >= K
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
  for p = 10, 1, -1 do keys[11 - p] = P .. ':s:' .. p end
  firsts = read_each(keys)
end
for p = 10, 1, -1 do
  local key = P .. ':s:' .. p
  if firsts and firsts[key] then hand_out(p, key, { firsts[key] }) end
  if not firsts or firsts[key] then exhaust(p, key) end
end
full = full or left == 0
if #leases > 0 then redis.call('ZADD', P .. ':l', unpack(leases)) end
for i = 1, #expiring, 100 do redis.call('ZREM', P .. ':x', unpack(expiring, i, math.min(#expiring, i + 99))) end

-- Publishers that wait for room.
if #got > 0 and rules.bound and rules.bound.overflow == 'block' then rouse(P, ':p', math.min(16, #got)) end
-- Who has found something waits no longer.
local found, known = #got > 0 or full, 0
if found and waiter ~= '' then known = redis.call('ZREM', P .. ':w', waiter) end
-- There may be more for somebody else: pass it on.
if full then wake(P, 1) end
local lost = dropped[P] or 0
if found or want == 0 then return { full and 1 or 0, more and 1 or 0, -1, 0, lost, from, known, unpack(got) } end

local crowd = redis.call('ZCARD', P .. ':w')
if waiter ~= '' then
  -- The dead among few do no harm.
  if crowd > 16 then redis.call('ZREMRANGEBYSCORE', P .. ':w', '-inf', now - 60000) end
  known = 1 - redis.call('ZADD', P .. ':w', now, waiter)
end
soonest = soonest or math.min(first_time(P .. ':d'), first_time(P .. ':l'))
local wait = soonest < math.huge and math.max(0, (soonest - clock[1] * 1000) * 1000 - clock[2]) or -1
return { 0, more and 1 or 0, wait, crowd, lost, from, known }

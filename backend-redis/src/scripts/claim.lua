-- KEYS: the queue's. ARGV: how many, lease in ms, nonce, waiter or '', default maximum of attempts, consumer, whether little is
-- expected, about the most bytes, until when it may be done in ms or 0, and of the waiter: 1 waits when there is nothing, 2 is on the
-- list as far as it knows.
-- Answers 0: no such queue; 1 and the time: too late, nothing was done; else { full, more due now, µs until something is due or -1,
-- how many consumers wait, { how many letters were dropped, and of each message that died: its id, the reason; of a key
-- that was set aside: its name, `set_aside` }, the time, whether
-- the waiter was known, { priority, id, max, fields }… }; what is due and the crowd are told when there is nothing.
--- @include keys
--- @include time
--- @include unread
--- @include sets

local found = redis.call('HMGET', KEYS[QUEUE], 'v', 'rules', 'large')
if not found[1] then return 0 end
if found[1] ~= '1' then
  --- @include version
  return newer(KEYS[QUEUE], found[1])
end
local is_read, rules = pcall(cjson.decode, found[2] or '{}')
-- It is not as the catalogue has it: whoever asks makes it so.
if not is_read or type(rules) ~= 'table' then return 0 end
local want, lease, nonce, waiter, default, consumer, sparse =
  tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7] == '1'
local most, last = tonumber(ARGV[8] or 8 * 1024 * 1024), tonumber(ARGV[9] or 0)
local place = tonumber(ARGV[10] or waiter ~= '' and 1 or 0)
local parks = place % 2 == 1
-- Whoever asked does not wait for the answer any more: to lease to him would be to lease to nobody.
if last > 0 and now > last then return { 1, from } end
-- Somebody has found it on the list: what he gave it or told it comes first.
if place >= 2 and not on_set('ZSCORE', KEYS[WAITERS], waiter) then return { 0, 0, -1, 0, { 0 }, from, 0 } end
local got, leases, expiring, reissued, left, buried = {}, {}, {}, {}, want, 0

-- What is due is applied first. Mostly nothing is, and its definitions are not even made.
local slow
local function slow_path()
  if not slow then
    --- @include library
    slow = { apply_due = apply_due, dead_letter = dead_letter, must = must, dropped = dropped, died = died }
  end
  return slow
end

local function first_time(set)
  return tonumber(on_set('ZRANGE', KEYS[set], 0, 0, 'WITHSCORES')[2]) or math.huge
end

local BACK = 10
local due, ended, expired = first_time(DUE), first_time(LEASES), first_time(EXPIRING)
local soonest, more, is_any_back = math.min(due, ended), false, ended <= BACK
if soonest <= now or expired <= now or rules.dedup or rules.dead then
  local _
  more, _, soonest = slow_path().apply_due(0, rules)
end

-- A number of ours in a field, of so many digits at most; what is none of ours is none.
local function number(text, digits)
  return #text <= digits and string.find(text, '^%d+$') and tonumber(text) or nil
end

-- Gives a message to the caller, which may have as many attempts as it says itself, or else as the greatest maximum allows under
-- which it was tried, the caller's included. One that has expired, or that says it has had more, is a dead letter.
local function take(p, key, id, fields)
  local failures, own, allowed, ends, last_error, bytes = 0, nil, default, nil, '', 0
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'a' then failures = number(value, 9) or 0 end
    if name == 'x' then own = number(value, 9) end
    if name == 'm' then allowed = math.max(default, number(value, 9) or 0) end
    if name == 'e' then ends = number(value, 14) end
    if name == 'le' then last_error = value end
    if name == 'data' then bytes = #value end
  end
  if ends then expiring[#expiring + 1] = p .. ':' .. id end
  local max = own or allowed
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

-- So many bytes, and 100 messages for the dead letters, are enough for one call; one message always fits.
local bytes, full, taken = 0, false, 0

-- Hands out what was read. What was read beyond goes back: the cursor is put where it was.
local function hand_out(p, key, entries)
  for _, entry in ipairs(entries) do
    if full or left == 0 then
      return unread_from(key, entry[1])
    end
    bytes, taken = bytes + take(p, key, entry[1], entry[2]), taken + 1
    full = bytes >= most or buried >= 100
  end
end

-- Where a stream was read from in this call, so that nothing that was read is lost should the call fail.
local begins = {}
local function read_on(key, count)
  local entries = read(key, count)
  if entries[1] then begins[key] = begins[key] or entries[1][1] end
  return entries
end

-- All that one priority has. What is read is what still fits, going by the size of what was: at first, and where there are large
-- ones, nobody knows.
local function exhaust(p, key)
  local step = (found[3] or taken == 0) and 1 or 4
  while left > 0 and not full do
    local fits = taken > 0 and math.max(1, math.floor((most - bytes) / math.max(1, bytes / taken))) or step
    local asked = math.min(left, step, fits)
    local entries = read_on(key, asked)
    hand_out(p, key, entries)
    if #entries < asked then return end
    step = found[3] and 1 or math.min(16, step * 4)
  end
end

-- What was put back of one priority, the oldest first.
local function take_back(p, key)
  local back = {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[LEASES], p, p, 'LIMIT', 0, 1000)) do
    local id, ms, seq = string.match(member, '^%d+:((%d+)%-(%d+)):')
    back[#back + 1] = { member = member, id = id, ms = tonumber(ms) or 0, seq = tonumber(seq) or 0 }
  end
  table.sort(back, function(a, b) return a.ms < b.ms or a.ms == b.ms and a.seq < b.seq end)
  for _, one in ipairs(back) do
    if full or left == 0 then return end
    local entry = one.id and redis.call('XRANGE', key, one.id, one.id)[1]
    if entry then hand_out(p, key, { entry }) end
    reissued[#reissued + 1] = one.member
  end
end

-- Where there is little, one look at the first of all priorities finds it; where there is much, only what is taken is read.
local function walk()
  local firsts
  if sparse and left > 0 then
    local keys = {}
    for p = 10, 1, -1 do keys[11 - p] = KEYS[p] end
    firsts = read_each(keys)
    for key, entry in pairs(firsts) do begins[key] = entry[1] end
  end
  for p = 10, 1, -1 do
    local key = KEYS[p]
    if is_any_back and left > 0 and not full then take_back(p, key) end
    if firsts and firsts[key] then hand_out(p, key, { firsts[key] }) end
    if not firsts or firsts[key] then exhaust(p, key) end
  end
  if #leases > 0 then redis.call('ZADD', KEYS[LEASES], unpack(leases)) end
end

-- Whatever fails, nothing that was read is lost: it is unread again.
local walked = { pcall(walk) }
if not walked[1] then
  for key, id in pairs(begins) do unread_from(key, id) end
  local why = walked[2]
  return redis.error_reply(type(why) == 'table' and why.err or tostring(why))
end
full = full or left == 0
for i = 1, #reissued, 100 do redis.call('ZREM', KEYS[LEASES], unpack(reissued, i, math.min(#reissued, i + 99))) end
for i = 1, #expiring, 100 do redis.call('ZREM', KEYS[EXPIRING], unpack(expiring, i, math.min(#expiring, i + 99))) end

-- Publishers that wait for room are woken; who has found something waits no longer; there may be more for somebody else.
local has_found, known = #got > 0 or full, place >= 2 and 1 or 0
local frees_room = #got > 0 and rules.bound and rules.bound.overflow == 'block'
if has_found and waiter ~= '' then known = on_set('ZREM', KEYS[WAITERS], waiter) end
if frees_room or full then
  --- @include notify
  if frees_room then wake(0, PUBLISHERS, #got) end
  if full then wake(0, WAITERS, 1) end
end
local deaths = slow and { slow.dropped[0] or 0, unpack(slow.died) } or { 0 }
for _, key in ipairs(moved) do deaths[#deaths + 1], deaths[#deaths + 2] = key, 'set_aside' end
if has_found or want == 0 then return { full and 1 or 0, more and 1 or 0, -1, 0, deaths, from, known, unpack(got) } end

-- No lease is left although something was read and is not settled: the leases were taken away. It is unread again.
local orphans = false
if ended == math.huge and #reissued == 0 then
  for p = 1, 10 do
    if redis.call('XLEN', KEYS[p]) > 0 then
      redis.call('XGROUP', 'SETID', KEYS[p], 'g', '0')
      orphans = true
    end
  end
end

local crowd = on_set('ZCARD', KEYS[WAITERS])
if parks then
  -- The dead among few do no harm.
  if crowd > 16 then redis.call('ZREMRANGEBYSCORE', KEYS[WAITERS], '-inf', now - 60000) end
  known = 1 - redis.call('ZADD', KEYS[WAITERS], now, waiter)
end
soonest = soonest or math.min(first_time(DUE), first_time(LEASES))
more = more or orphans

-- Of many that wait only a few look at the time: else all would ask in the same instant. A place among them is `time|waiter`; it is
-- free when its time has passed (who had it has looked, and found nothing more to wait for, or will look again all the same), and when
-- who has it does not wait any more, has not asked lately, or knows of nothing so soon.
local FEW, LATELY = 3, 6500
local function looks_at_the_time()
  if crowd <= FEW or not parks then return true end
  local places = { 'd1', 'd2', 'd3' }
  local free
  for n, held in ipairs(redis.call('HMGET', KEYS[QUEUE], unpack(places))) do
    local time, who = string.match(held or '', '^(%d+)|(.*)$')
    if who == waiter then
      free = places[n]
      break
    end
    local since = who and redis.call('ZSCORE', KEYS[WAITERS], who)
    local looks = since and tonumber(since) >= now - LATELY and tonumber(time) > now and tonumber(time) <= soonest
    if not looks then free = free or places[n] end
  end
  if free then redis.call('HSET', KEYS[QUEUE], free, string.format('%.0f|%s', soonest, waiter)) end
  return free ~= nil
end

if soonest == math.huge or not looks_at_the_time() then return { 0, more and 1 or 0, -1, crowd, deaths, from, known } end
local wait = math.max(0, (soonest - clock[1] * 1000) * 1000 - clock[2])
return { 0, more and 1 or 0, wait, math.min(crowd, FEW), deaths, from, known }

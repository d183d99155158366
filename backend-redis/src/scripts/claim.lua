-- KEYS: queue. ARGV: how many, lease in ms, nonce, waiter or '', default maximum of attempts, consumer.
-- Answers 0: no such queue; else { full, more due now, µs until something is due or -1, how many consumers wait, how many
-- letters were dropped, { priority, id, max, fields }… }; the time and the crowd are told when there is nothing.
local P = KEYS[1]
local rules = rules_of(P)
if not rules then return 0 end
local want, lease, nonce, waiter, default, consumer =
  tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local more = apply_due(P, rules)
local got, leases, expiring, left, buried = {}, {}, {}, want, 0

-- What nobody has read yet of one priority. The group is only a cursor; it is made again when somebody removed it.
local function read(key, count)
  local reply = redis.pcall('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', count, 'NOACK', 'STREAMS', key, '>')
  if reply and reply.err then
    if not string.find(reply.err, 'NOGROUP', 1, true) then error(reply.err) end
    redis.call('XGROUP', 'CREATE', key, 'g', '0', 'MKSTREAM')
    reply = redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', count, 'NOACK', 'STREAMS', key, '>')
  end
  return reply and reply[1][2] or {}
end

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

-- About 8 MiB, and 100 messages for the dead letters, are enough for one call. What was read beyond goes back: the cursor is
-- put where it was.
local bytes, full = 0, false

local function hand_out(p, key)
  local step = 4
  while left > 0 and not full do
    local asked = math.min(left, step)
    local entries = read(key, asked)
    for i, entry in ipairs(entries) do
      if full then
        redis.call('XGROUP', 'SETID', key, 'g', entries[i - 1][1])
        return
      end
      take(p, key, entry[1], entry[2])
      bytes = bytes + size(entry[2])
      full = bytes >= BYTES or buried >= K
    end
    if #entries < asked then return end
    step = step * 2
  end
end

for p = 10, 1, -1 do
  if left > 0 and not full then hand_out(p, P .. ':s:' .. p) end
end
full = full or left == 0
if #leases > 0 then redis.call('ZADD', P .. ':l', unpack(leases)) end
for i = 1, #expiring, 100 do redis.call('ZREM', P .. ':x', unpack(expiring, i, math.min(#expiring, i + 99))) end

-- Publishers that wait for room.
if #got > 0 and rules.bound and rules.bound.overflow == 'block' then rouse(P, ':p', math.min(16, #got)) end
-- There may be more for somebody else: pass it on.
if full then wake(P, 1) end
local lost = dropped[P] or 0
if #got > 0 or full or want == 0 then return { full and 1 or 0, more and 1 or 0, -1, 0, lost, unpack(got) } end

if waiter ~= '' then
  redis.call('ZREMRANGEBYSCORE', P .. ':w', '-inf', now - 60000)
  redis.call('ZADD', P .. ':w', now, waiter)
end
local next_due = redis.call('ZRANGE', P .. ':d', 0, 0, 'WITHSCORES')[2]
local next_end = redis.call('ZRANGE', P .. ':l', 0, 0, 'WITHSCORES')[2]
local soonest = math.min(tonumber(next_due) or math.huge, tonumber(next_end) or math.huge)
local wait = soonest < math.huge and math.max(0, (soonest - clock[1] * 1000) * 1000 - clock[2]) or -1
return { 0, more and 1 or 0, wait, redis.call('ZCARD', P .. ':w'), lost }

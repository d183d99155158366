-- KEYS: the queue's. ARGV, for each verdict: a lease | r lease delay uid error | l lease delay uid | d lease reason error attempt |
-- b lease. (ack, retry, release, dead letter, back to where it was, for nobody had it.) Answers for
-- each: 1 applied, 2 died, 3 not leased and not there, 4 lease over or lost, or an error's text; and last how many letters were
-- dropped, and the time in ms.
--- @include keys
--- @include library

local rules = rules_of(0) or {}
local until_ack = rules.dedup and rules.dedup['until'] == 'ack'
local answers, acks, ready = {}, {}, 0

local function standing(score, member)
  if not score then
    local p, id = lease_parts(member)
    return p and redis.call('XRANGE', KEYS[p], id, id)[1] and 4 or 3
  end
  if tonumber(score) <= now then return 4 end
end

-- Frees the key of a message that is acknowledged, where that ends the memory of it.
local function acknowledge(p, id)
  local entry = redis.call('XRANGE', KEYS[p], id, id)[1]
  if entry then free_key(0, entry[2], id) end
end

-- Acks that follow each other are settled together.
local function settle_acks()
  if #acks == 0 then return end
  local members, live, ids, seen = {}, {}, {}, {}
  for i, ack in ipairs(acks) do members[i] = ack.member end
  local scores = redis.call('ZMSCORE', KEYS[LEASES], unpack(members))
  for i, ack in ipairs(acks) do
    local refused = seen[ack.member] and 3 or standing(scores[i], ack.member)
    answers[ack.position] = refused or 1
    if not refused then
      seen[ack.member] = true
      live[#live + 1] = ack.member
      local p, id = lease_parts(ack.member)
      if until_ack then acknowledge(p, id) end
      ids[p] = ids[p] or {}
      table.insert(ids[p], id)
    end
  end
  if #live > 0 then redis.call('ZREM', KEYS[LEASES], unpack(live)) end
  for p, list in pairs(ids) do redis.call('XDEL', KEYS[p], unpack(list)) end
  acks = {}
end

-- Back into the queue, now or later. Answers like `pcall`.
local function put(p, fields, delay, uid, own)
  if delay == 0 then
    ready = ready + 1
    return make_ready(0, p, fields, own)
  end
  local stored = put_off(0, p, fields, from + delay, uid)
  if redis.call('ZRANGE', KEYS[DUE], 0, 0)[1] == uid then ready = ready + 1 end
  return stored
end

-- What a verdict does to an entry. Answers like `pcall`, and the code.
local function judge(verdict, p, id, max, consumer, fields, first, second, third)
  local attempts, ends = count(fields, 'a') + 1, expiry(fields)
  if verdict == 'd' then
    return dead_letter(0, p, id, fields, first, second, attempts - 1 + tonumber(third), consumer), 2
  end
  if verdict == 'r' and attempts >= max then
    return dead_letter(0, p, id, fields, 'max_attempts', third, attempts, consumer), 2
  end
  if ends and ends <= now then
    local had, code = attempts, 2
    if verdict == 'l' then had, code = attempts - 1, 1 end
    return dead_letter(0, p, id, fields, 'expired', 'expired', had, consumer), code
  end
  if verdict == 'l' then return put(p, kept(fields, id, {}), tonumber(first), second, id), 1 end
  local retries = count(fields, 'n') + 1
  return put(p, kept(fields, id, { a = attempts, m = max, n = retries, le = third }), tonumber(first), second, id), 1
end

-- It was leased and nobody had it: it is ready again where it stands, before all that came after it.
local function put_back(member, p, id, fields)
  local ends = expiry(fields)
  if ends then redis.call('ZADD', KEYS[EXPIRING], ends, p .. ':' .. id) end
  redis.call('ZADD', KEYS[LEASES], p, member)
  ready = ready + 1
  return 1
end

local function apply(verdict, member, first, second, third)
  local refused = standing(redis.call('ZSCORE', KEYS[LEASES], member), member)
  if refused then return refused end
  local p, id, max, consumer = lease_parts(member)
  if not p then return 3 end
  local key = KEYS[p]
  local entry = redis.call('XRANGE', key, id, id)[1]
  if verdict == 'b' and entry then return put_back(member, p, id, entry[2]) end
  local stored, answer = true, 3
  if entry then stored, answer = judge(verdict, p, id, max, consumer, entry[2], first, second, third) end
  if failed(stored) then return stored.err end
  redis.call('XDEL', key, id)
  redis.call('ZREM', KEYS[LEASES], member)
  return answer
end

local lengths = { a = 2, r = 5, l = 4, d = 5, b = 2 }
local i, position = 1, 0
while i <= #ARGV do
  local verdict = ARGV[i]
  position = position + 1
  if verdict == 'a' then
    acks[#acks + 1] = { position = position, member = ARGV[i + 1] }
  else
    settle_acks()
    answers[position] = apply(verdict, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
  end
  i = i + lengths[verdict]
end
settle_acks()
if ready > 0 then wake(0, WAITERS, ready) end
retain(0, rules.dead)
answers[position + 1], answers[position + 2] = dropped[0] or 0, now
return answers

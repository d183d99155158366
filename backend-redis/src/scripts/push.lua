-- Needs: keys, notify, unread, used. Defines: push.
-- Gives the only message that a call has made ready to a consumer that waits, which so need not ask for it: half the way. Only
-- if nothing as urgent comes before it; only to one that asked lately, for what goes to one that is gone is not back before the
-- end of its lease; and nothing large, for the server cuts off a listener with too much before him. All others are woken.
local LATELY, SMALL = 6000, 16 * 1024

-- Whether anything more urgent is unread. `used`: the priorities that the queue has ever had.
local function is_outrun(at, p, used)
  if #used < 2 then return false end
  local keys = {}
  for urgent = 10, p + 1, -1 do
    if string.find(used, digit(urgent), 1, true) then keys[#keys + 1] = KEYS[at + urgent] end
  end
  if #keys == 0 then return false end
  local before = read_each(keys)
  for key, entry in pairs(before) do unread_from(key, entry[1]) end
  return next(before) ~= nil
end

-- Whether anything was put back, as only a claim can find it.
local function is_any_back(at)
  local score = redis.call('ZRANGE', KEYS[at + LEASES], 0, 0, 'WITHSCORES')[2]
  return score and tonumber(score) <= 10
end

-- Takes a message out of what is unread, if it is what comes next. Answers its fields.
local function take_next(at, p, id, used)
  if is_any_back(at) or is_outrun(at, p, used) then return end
  local first = read(KEYS[at + p], 1)[1]
  if not first then return end
  if first[1] == id then return first[2] end
  unread_from(KEYS[at + p], first[1])
end

local function is_heard(channel, text)
  local heard = redis.pcall('PUBLISH', channel, text)
  return type(heard) == 'number' and heard > 0
end

-- The consumer that waits longest, whether it takes a message unasked, and on what terms.
local function next_waiter(at, clock)
  local name, since = unpack(redis.call('ZPOPMIN', KEYS[at + WAITERS]))
  if not name then return end
  local channel, number, lease, max, consumer = string.match(name, '^([^|]*)|(%d+)|?(%d*)|?(%d*)|?(.*)$')
  local takes = channel and lease ~= '' and max ~= '' and clock[1] * 1000 - since < LATELY
  return { channel = channel or '', number = number or '', takes = takes, lease = lease, max = max, consumer = consumer }
end

-- Leases it to a consumer and sends it. Answers whether somebody is there. What fails, fails before it is leased.
local function lease_to(at, p, id, fields, clock, waiter)
  local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
  local ends = clock[1] * 1000 + math.ceil(clock[2] / 1000) + tonumber(waiter.lease)
  local max = waiter.max
  for i = 1, #fields, 2 do
    if fields[i] == 'x' then max = string.format('%.0f', math.max(1, tonumber(fields[i + 1]) or 1)) end
  end
  local holder = string.match(waiter.channel, '[^:]*$') .. '-' .. waiter.number
  local nonce = string.format('%s.%.0f%06d.given', holder, clock[1], clock[2])
  local member = p .. ':' .. id .. ':' .. nonce .. ':' .. max .. ':' .. waiter.consumer
  local message = cmsgpack.pack({ 'P', prefix_of(at), 'lease', member, 'now', now, unpack(fields) })
  redis.call('ZADD', KEYS[at + LEASES], ends, member)
  if is_heard(waiter.channel, waiter.number .. '>' .. message) then return true end
  redis.call('ZREM', KEYS[at + LEASES], member)
end

-- Gives it to the first that takes it; one that does not, or whom it cannot be leased to, is woken, and that is all.
local function give(at, p, id, bytes, used, clock)
  clock = clock or redis.call('TIME')
  local looked, fields = bytes > SMALL, nil
  for _ = 1, 32 do
    local waiter = next_waiter(at, clock)
    if not waiter then break end
    if waiter.takes and not looked then looked, fields = true, take_next(at, p, id, used) end
    if waiter.takes and fields then
      local sound, given = pcall(lease_to, at, p, id, fields, clock, waiter)
      if sound and given then return true end
    end
    if is_heard(waiter.channel, waiter.number .. '|' .. prefix_of(at)) then break end
  end
  if fields then unread_from(KEYS[at + p], id) end
end

-- Answers whether it was given. Never fails: what was stored is stored, and who is not told asks by himself.
local function push(at, p, id, bytes, used, clock)
  local sound, given = pcall(give, at, p, id, bytes, used, clock)
  return sound and given
end

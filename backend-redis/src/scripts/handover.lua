-- Gives the only message that a call has made ready to a consumer that waits, which so need not ask for it: half the way. Only
-- if nothing as urgent comes before it; only to one that asked lately, for what goes to one that is gone is not back before the
-- end of its lease; and nothing large, for the server cuts off a listener with too much before him. All others are woken.
local LATELY, SMALL = 6000, 16 * 1024

-- Whether anything more urgent is unread. `used`: the priorities that the queue has ever had.
local function is_outrun(P, p, used)
  if #used < 2 then return false end
  local keys = {}
  for urgent = 10, p + 1, -1 do
    if string.find(used, digit(urgent), 1, true) then keys[#keys + 1] = P .. ':s:' .. urgent end
  end
  if #keys == 0 then return false end
  local before = read_each(keys)
  for key, entry in pairs(before) do unread_from(key, entry[1]) end
  return next(before) ~= nil
end

-- Takes a message out of what is unread, if it is what comes next. Answers its fields.
local function take_next(P, p, id, used)
  if is_outrun(P, p, used) then return end
  local key = P .. ':s:' .. p
  local first = read(key, 1)[1]
  if not first then return end
  if first[1] == id then return first[2] end
  unread_from(key, first[1])
end

local function is_heard(channel, text)
  local heard = redis.pcall('PUBLISH', channel, text)
  return type(heard) == 'number' and heard > 0
end

-- Leases it to a consumer and sends it. Answers whether somebody is there. What fails, fails before it is leased.
local function give(P, p, id, fields, clock, channel, number, lease, max, consumer)
  local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
  local ends = clock[1] * 1000 + math.ceil(clock[2] / 1000) + tonumber(lease)
  for i = 1, #fields, 2 do
    if fields[i] == 'x' then max = string.format('%.0f', math.max(1, tonumber(fields[i + 1]) or 1)) end
  end
  local holder = string.match(channel, '[^:]*$') .. '-' .. number
  local member = p .. ':' .. id .. ':' .. holder .. '.given:' .. max .. ':' .. consumer
  local message = cmsgpack.pack({ 'P', P, 'lease', member, 'now', now, unpack(fields) })
  redis.call('ZADD', P .. ':l', ends, member)
  if is_heard(channel, number .. '>' .. message) then return true end
  redis.call('ZREM', P .. ':l', member)
end

local function offer(P, p, id, bytes, used, clock)
  local looked, fields = bytes > SMALL, nil
  for _ = 1, 32 do
    local waiter, since = unpack(redis.call('ZPOPMIN', P .. ':w'))
    if not waiter then break end
    local channel, number, lease, max, consumer = string.match(waiter, '^([^|]*)|(%d+)|?(%d*)|?(%d*)|?(.*)$')
    clock = clock or redis.call('TIME')
    local may = max and lease ~= '' and max ~= '' and clock[1] * 1000 - since < LATELY
    if may and not looked then looked, fields = true, take_next(P, p, id, used) end
    if may and fields then
      local sound, given = pcall(give, P, p, id, fields, clock, channel, number, lease, max, consumer)
      if sound and given then return true end
    elseif channel and is_heard(channel, number .. '|' .. P) then
      break
    end
  end
  if fields then unread_from(P .. ':s:' .. p, id) end
end

-- Answers whether it was given. Never fails: what was stored is stored, and who is not told asks by himself.
local function hand_over(P, p, id, bytes, used, clock)
  local sound, given = pcall(offer, P, p, id, bytes, used, clock)
  return sound and given
end

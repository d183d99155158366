-- The slow path that scripts share. Needs: keys. Defines, in this order:
-- the time    clock, now, from
-- waking      prefix_of, wake
-- sets        moved, on_set
-- streams     LAST, is_exhausted, renew, append
-- rules       NONE, rules_of
-- put back    BACK, first_end
-- entries     get, changed, kept, whole, count, ms, expiry, time_text, priority, lease_parts, size
-- errors      failed, must
-- dedup keys  key_owner, remember_key, free_key, forget_ended_keys
-- the dead    K, BYTES, dropped, died, dead_letter, retain
-- waiting     make_ready, put_off, read_delayed, forget_delayed
-- what is due first_time, apply_due
-- `at` is where the keys of a queue begin, less one: 0 where a script works on one queue.
--- @include time
--- @include notify
--- @include sets
--- @include renew

-- Adds an entry to a stream, which is made anew if it takes none any more; `own` is taken out of it next. Answers like `pcall`.
local function append(key, own, ...)
  local stored = redis.pcall('XADD', key, '*', ...)
  if is_exhausted(stored) and renew(key, own) then return redis.pcall('XADD', key, '*', ...) end
  return stored
end

-- What a queue was declared to be, apart from its name and bindings, and what priorities it has had; nothing for one that is not
-- declared, or whose rules are not what the catalogue has: whoever asks makes them so.
local NONE = {}

local function rules_of(at)
  local found = redis.call('HMGET', KEYS[at + QUEUE], 'v', 'rules', 'ps')
  if not found[1] then return end
  if found[1] ~= '1' then
    --- @include version
    error(newer(KEYS[at + QUEUE], found[1]))
  end
  if not found[2] then return NONE, found[3] or '' end
  local is_read, rules = pcall(cjson.decode, found[2])
  if is_read and type(rules) == 'table' then return rules, found[3] or '' end
end

-- A lease that nobody holds: its entry was read, handed to nobody and is ready where it stands. Its score is its priority, so
-- that claims find it before what is unread.
local BACK = 10

-- When the first lease of a queue ends that somebody holds.
local function first_end(at)
  local key = KEYS[at + LEASES]
  local first = tonumber(on_set('ZRANGE', key, 0, 0, 'WITHSCORES')[2]) or math.huge
  if first > BACK then return first end
  return tonumber(redis.call('ZRANGEBYSCORE', key, '(' .. BACK, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]) or math.huge
end

-- An entry of a stream is a flat list of names and values. What we do not know in it is carried along.
local function get(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
end

-- A copy with some values changed; `false` takes a field away.
local function changed(fields, changes)
  local copy, n = {}, 0
  for i = 1, #fields, 2 do
    local value = changes[fields[i]]
    if value == nil then value = fields[i + 1] end
    if value then copy[n + 1], copy[n + 2], n = fields[i], value, n + 2 end
    if changes[fields[i]] then changes[fields[i]] = false end
  end
  for name, value in pairs(changes) do
    if value then copy[n + 1], copy[n + 2], n = name, value, n + 2 end
  end
  return copy
end

-- One that is to be written again. A foreign message gets the id that it has had so far, its stream id; an entry with more
-- fields than Lua can pass on becomes one field.
local function kept(fields, id, changes)
  if #fields > 1000 then return { 'raw', cmsgpack.pack(fields) } end
  if not get(fields, 'id') then changes.id = id end
  return changed(fields, changes)
end

-- A field of ours that counts; what is none of ours is none.
local function whole(text)
  text = text and tostring(text)
  return text and #text < 10 and string.find(text, '^%d+$') and tonumber(text) or nil
end

local function count(fields, name)
  return whole(get(fields, name)) or 0
end

-- A time or a span of ours, in ms.
local function ms(text)
  text = text and tostring(text)
  return text and #text < 15 and string.find(text, '^%d+$') and tonumber(text) or nil
end

-- When it expires, if ever.
local function expiry(fields)
  return ms(get(fields, 'e'))
end

-- A time for a field: no fraction, no exponent.
local function time_text(time)
  return string.format('%.0f', time)
end

-- A priority, read from a text; nothing for what is none, for all else that a number reaches in KEYS is not its stream.
local function priority(text)
  local p = whole(text)
  return p and p >= 1 and p <= 10 and p or nil
end

-- A lease is `priority:stream id:nonce:max attempts:consumer` with its end as score.
local function lease_parts(member)
  local p, id, max, consumer = string.match(member, '^(%d+):(%d+%-%d+):[^:]*:(%d+):(.*)$')
  return priority(p), id, tonumber(max), consumer
end

-- Whether a `pcall` failed.
local function failed(answer)
  return type(answer) == 'table' and answer.err ~= nil
end

-- Ends the script for a `pcall` that failed.
local function must(answer)
  if failed(answer) then error(answer.err) end
  return answer
end

-- The keys that a queue remembers: whose each is, and when it is free again.
local function key_owner(at, key)
  local ends = redis.call('ZSCORE', KEYS[at + DEDUP_ENDS], key)
  return ends and tonumber(ends) > now and redis.call('HGET', KEYS[at + DEDUP_OWNERS], key)
end

local function remember_key(at, key, id, window)
  redis.call('ZADD', KEYS[at + DEDUP_ENDS], from + window, key)
  redis.call('HSET', KEYS[at + DEDUP_OWNERS], key, id)
end

-- Frees the key of an entry, unless another message has it by now.
local function free_key(at, fields, id)
  local key = get(fields, 'dk')
  if key and redis.call('HGET', KEYS[at + DEDUP_OWNERS], key) == (get(fields, 'id') or id) then
    redis.call('HDEL', KEYS[at + DEDUP_OWNERS], key)
    redis.call('ZREM', KEYS[at + DEDUP_ENDS], key)
  end
end

-- Forgets keys whose window has ended: 500 at most. Answers whether there may be more.
local function forget_ended_keys(at)
  local ended = redis.call('ZRANGEBYSCORE', KEYS[at + DEDUP_ENDS], '-inf', now, 'LIMIT', 0, 500)
  if #ended == 0 then return false end
  redis.call('ZREM', KEYS[at + DEDUP_ENDS], unpack(ended))
  redis.call('HDEL', KEYS[at + DEDUP_OWNERS], unpack(ended))
  return #ended == 500
end

-- Dead letters: written when a message dies, kept for as long as the queue was declared to keep them. At most 100 entries or
-- about 8 MiB a call.
local K, BYTES = 100, 8 * 1024 * 1024

-- How many this call dropped, by queue; and who died in it, each with the reason.
local dropped, died = {}, {}

local function size(fields)
  return #(get(fields, 'data') or '')
end

-- Writes a dead letter: seven fields of the death, then the message's own. Its key is free. Answers like `pcall`.
local function dead_letter(at, p, id, fields, reason, text, attempts, consumer)
  local total = attempts + count(fields, 'ta')
  local own = #fields > 1000 and kept(fields, id, {}) or fields
  local stored = append(KEYS[at + DEAD], nil, 'dr', reason, 'de', text, 'da', attempts, 'dt', total,
    'dc', consumer, 'do', id, 'dp', p, unpack(own))
  if not failed(stored) then
    free_key(at, fields, id)
    died[#died + 1], died[#died + 2] = get(fields, 'id') or id, reason
  end
  return stored
end

-- Drops letters that have been dead for too long. Answers whether there may be more.
local function drop_old(at, age)
  local bound, swept, bytes = time_text(math.max(0, now - age - 1)), 0, 0
  while swept < K and bytes < BYTES do
    local entries = redis.call('XRANGE', KEYS[at + DEAD], '-', bound, 'COUNT', 10)
    if #entries == 0 then return false end
    local ids = {}
    for i, entry in ipairs(entries) do
      ids[i] = entry[1]
      bytes = bytes + size(entry[2])
    end
    swept = swept + redis.call('XDEL', KEYS[at + DEAD], unpack(ids))
    dropped[at] = (dropped[at] or 0) + #ids
  end
  return true
end

-- Drops letters beyond what is to be kept, the oldest first. Answers whether there may be more.
local function retain(at, keep)
  if not keep then return false end
  if keep.max_len then
    local over = redis.call('XTRIM', KEYS[at + DEAD], 'MAXLEN', '=', time_text(math.min(keep.max_len, 2 ^ 53)))
    dropped[at] = (dropped[at] or 0) + over
  end
  return keep.max_age_ms ~= nil and drop_old(at, keep.max_age_ms)
end

-- Makes it ready, at the end of its priority; `own` is where it stands now, if it does. Answers like `pcall`.
local function make_ready(at, p, fields, own)
  local stored = append(KEYS[at + p], own, unpack(fields))
  if failed(stored) then return stored end
  local ends = expiry(fields)
  if ends then redis.call('ZADD', KEYS[at + EXPIRING], ends, p .. ':' .. stored) end
  return stored
end

-- Puts it off until `due`, under a name of its own. Answers like `pcall`.
local function put_off(at, p, fields, due, uid)
  local stored = redis.pcall('HSET', KEYS[at + BODIES], uid, cmsgpack.pack({ p, unpack(fields) }))
  if failed(stored) then return stored end
  stored = redis.pcall('ZADD', KEYS[at + DUE], due, uid)
  if failed(stored) then
    redis.call('HDEL', KEYS[at + BODIES], uid)
    return stored
  end
  local id = get(fields, 'id')
  return id and redis.pcall('HSET', KEYS[at + DELAYED], id, uid) or stored
end

-- The priority and the fields of one that was put off; nothing for what none of us wrote.
local function read_delayed(body)
  local read, entry = pcall(cmsgpack.unpack, body)
  local sound = read and type(entry) == 'table' and #entry > 2 and #entry % 2 == 1
  local p = sound and priority(entry[1])
  if p then return p, { unpack(entry, 2) } end
end

-- It waits no longer.
local function forget_delayed(at, uid, fields)
  redis.call('ZREM', KEYS[at + DUE], uid)
  redis.call('HDEL', KEYS[at + BODIES], uid)
  local id = fields and get(fields, 'id')
  if id and redis.call('HGET', KEYS[at + DELAYED], id) == uid then redis.call('HDEL', KEYS[at + DELAYED], id) end
end

-- Applies what is due: at most 100 entries or about 8 MiB of each kind a call, so that no call is long.

-- When the first of a sorted set of times comes.
local function first_time(key)
  return tonumber(on_set('ZRANGE', key, 0, 0, 'WITHSCORES')[2]) or math.huge
end

-- What cannot be applied now waits so long, and stops nothing else.
local AGAIN = 1000

-- Delayed messages whose time has come go to the end of their priority. Answers how many were due and how many are ready;
-- when none was, also when the first will be.
local function promote(at)
  local first = first_time(KEYS[at + DUE])
  if first > now then return 0, 0, first end
  local due = redis.call('ZRANGEBYSCORE', KEYS[at + DUE], '-inf', now, 'LIMIT', 0, K)
  local ready, bytes = 0, 0
  for _, uid in ipairs(due) do
    local body = redis.call('HGET', KEYS[at + BODIES], uid)
    local p, fields = read_delayed(body or '')
    local ends, stored = p and expiry(fields), nil
    if ends and ends <= now then
      stored = dead_letter(at, p, '0-0', fields, 'expired', 'expired', count(fields, 'a'), '')
    elseif p then
      stored = make_ready(at, p, fields)
      if not failed(stored) then ready = ready + 1 end
    elseif body then
      stored = append(KEYS[at + DEAD], nil, 'dr', 'undecodable', 'de', 'not a delayed message', 'da', 0, 'dt', 0,
        'dc', '', 'do', '0-0', 'dp', 5, 'raw', body)
    end
    if failed(stored) then
      redis.call('ZADD', KEYS[at + DUE], now + AGAIN, uid)
    else
      forget_delayed(at, uid, fields)
    end
    bytes = bytes + #(body or '')
    if bytes > BYTES then return K, ready end
  end
  return #due, ready
end

-- Messages whose lease has ended have failed once more: the end of their priority again, or the dead letters. Answers as
-- `promote`.
local function reap(at)
  local first = first_end(at)
  if first > now then return 0, 0, first end
  local ended = redis.call('ZRANGEBYSCORE', KEYS[at + LEASES], '(' .. BACK, now, 'LIMIT', 0, K)
  local ready, bytes = 0, 0
  for _, member in ipairs(ended) do
    local p, id, max, consumer = lease_parts(member)
    local entry, stored = p and redis.pcall('XRANGE', KEYS[at + p], id, id), nil
    if not failed(entry) then entry = entry and entry[1] else stored, entry = entry, nil end
    if entry then
      local fields = entry[2]
      local attempts, ends = count(fields, 'a') + 1, expiry(fields)
      if attempts >= max then
        local text = 'the lease ended without a verdict'
        stored = dead_letter(at, p, id, fields, 'max_attempts', text, attempts, consumer)
      elseif ends and ends <= now then
        stored = dead_letter(at, p, id, fields, 'expired', 'expired', attempts, consumer)
      else
        stored = make_ready(at, p, kept(fields, id, { a = attempts, m = max }), id)
        if not failed(stored) then ready = ready + 1 end
      end
      if not failed(stored) then redis.call('XDEL', KEYS[at + p], id) end
      bytes = bytes + size(fields)
    end
    if failed(stored) then
      redis.call('ZADD', KEYS[at + LEASES], now + AGAIN, member)
    else
      redis.call('ZREM', KEYS[at + LEASES], member)
    end
    if bytes > BYTES then return K, ready end
  end
  return #ended, ready
end

-- Ready messages whose time to live has ended. Answers how many.
local function expire(at)
  local ended = redis.call('ZRANGEBYSCORE', KEYS[at + EXPIRING], '-inf', now, 'LIMIT', 0, K)
  local bytes = 0
  for _, member in ipairs(ended) do
    local p, id = string.match(member, '^(%d+):(%d+%-%d+)$')
    p = priority(p)
    local entry = p and redis.call('XRANGE', KEYS[at + p], id, id)[1]
    local ends = entry and expiry(entry[2])
    if ends and ends <= now then
      must(dead_letter(at, p, id, entry[2], 'expired', 'expired', count(entry[2], 'a'), ''))
      redis.call('XDEL', KEYS[at + p], id)
      bytes = bytes + size(entry[2])
    end
    redis.call('ZREM', KEYS[at + EXPIRING], member)
    if bytes > BYTES then return K end
  end
  return #ended
end

-- All of it, keys and dead letters that are not to be kept included. Answers whether there may be more, how many are ready
-- again, and, when none is, when the next will be.
local function apply_due(at, rules)
  local due, promoted, next_due = promote(at)
  local ended, reaped, next_end = reap(at)
  local expired = expire(at)
  local keys = rules.dedup and forget_ended_keys(at)
  local letters = retain(at, rules.dead)
  local more = due == K or ended == K or expired == K or letters or keys
  return more, promoted + reaped, next_due and next_end and math.min(next_due, next_end)
end

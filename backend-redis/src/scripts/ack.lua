-- KEYS: the queue's, up to the owners of dedup keys. ARGV: leases. Answers for each: 1 applied, 3 not
-- leased and not there, 4 lease over or lost; and last the time, in ms.
--- @include keys

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local scores = redis.call('ZMSCORE', KEYS[LEASES], unpack(ARGV))
local rules = redis.call('HGET', KEYS[QUEUE], 'rules')
local dedup = rules and cjson.decode(rules).dedup
local frees_keys = dedup and dedup['until'] == 'ack'

-- Frees the dedup key of an entry, unless another message has it by now.
local function free_key(key, id)
  local entry = redis.call('XRANGE', key, id, id)[1]
  local fields = {}
  for i = 1, entry and #entry[2] or 0, 2 do fields[entry[2][i]] = fields[entry[2][i]] or entry[2][i + 1] end
  if fields.dk and redis.call('HGET', KEYS[DEDUP_OWNERS], fields.dk) == (fields.id or id) then
    redis.call('HDEL', KEYS[DEDUP_OWNERS], fields.dk)
    redis.call('ZREM', KEYS[DEDUP_ENDS], fields.dk)
  end
end

local answers, live, ids, seen = {}, {}, {}, {}
for i, lease in ipairs(ARGV) do
  if not scores[i] or seen[lease] then
    local p, id = string.match(lease, '^(%d+):(%d+%-%d+):')
    local is_there = not seen[lease] and redis.call('XRANGE', KEYS[tonumber(p)], id, id)[1]
    answers[i] = is_there and 4 or 3
  elseif tonumber(scores[i]) <= now then
    answers[i] = 4
  else
    local p, id = string.match(lease, '^(%d+):(%d+%-%d+):')
    p = tonumber(p)
    if frees_keys then free_key(KEYS[p], id) end
    ids[p] = ids[p] or {}
    table.insert(ids[p], id)
    live[#live + 1] = lease
    answers[i], seen[lease] = 1, true
  end
end
if #live > 0 then redis.call('ZREM', KEYS[LEASES], unpack(live)) end
for p, list in pairs(ids) do redis.call('XDEL', KEYS[p], unpack(list)) end
answers[#ARGV + 1] = now
return answers

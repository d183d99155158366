-- Needs: library. Defines: last_read, first_back, first_ready.

-- The last entry of a stream that was handed out; everything behind it is ready.
local function last_read(key)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if groups.err then return '0-0' end
  for _, group in ipairs(groups) do
    if get(group, 'name') == 'g' then return get(group, 'last-delivered-id') end
  end
  return '0-0'
end

-- The oldest entry of a priority that was put back: its lease and its id.
local function first_back(at, p)
  local oldest, sequence, ms_of, lease
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[at + LEASES], p, p, 'LIMIT', 0, 100)) do
    local ms, seq = string.match(member, '^%d+:(%d+)%-(%d+):')
    ms, seq = tonumber(ms), tonumber(seq)
    if ms and (not lease or ms < ms_of or ms == ms_of and seq < sequence) then
      lease, oldest, ms_of, sequence = member, string.match(member, '^%d+:([^:]+):'), ms, seq
    end
  end
  return lease, oldest
end

-- The id of the oldest ready entry of a priority, if there is one, and its lease where it was put back.
local function first_ready(at, p)
  local key = KEYS[at + p]
  local lease, id = first_back(at, p)
  if lease and redis.call('XRANGE', key, id, id)[1] then return id, lease end
  local read_to = last_read(key)
  -- Nothing can stand behind the last id that there is.
  if read_to == LAST then return end
  local entry = redis.call('XRANGE', key, '(' .. read_to, '+', 'COUNT', 1)[1]
  return entry and entry[1]
end

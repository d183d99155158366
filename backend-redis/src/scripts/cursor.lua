-- Needs: library. Defines: last_read, first_unread.

-- The last entry of a stream that was handed out; everything behind it is ready.
local function last_read(key)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if groups.err then return '0-0' end
  for _, group in ipairs(groups) do
    if get(group, 'name') == 'g' then return get(group, 'last-delivered-id') end
  end
  return '0-0'
end

-- The id of the oldest ready entry, if there is one.
local function first_unread(key)
  local entry = redis.call('XRANGE', key, '(' .. last_read(key), '+', 'COUNT', 1)[1]
  return entry and entry[1]
end

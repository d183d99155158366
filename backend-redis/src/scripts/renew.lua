-- Defines: LAST, is_exhausted, renew.
-- A stream in which other hands have used the last id that there is takes no entry any more. It is made anew, all that it holds in place.
local LAST = '18446744073709551615-18446744073709551615'

local function is_exhausted(stored)
  return type(stored) == 'table' and stored.err and string.find(stored.err, 'exhausted', 1, true)
end

-- Where its group has read to, if it has one.
local function cursor_of(key)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  for _, group in ipairs(groups.err and {} or groups) do
    local named = {}
    for i = 1, #group, 2 do named[group[i]] = group[i + 1] end
    if named.name == 'g' then return named['last-delivered-id'] end
  end
end

-- All entries; nothing when they are more than a call may copy: it is tried again when there are fewer.
local function all_entries(key)
  local entries, bytes, after = {}, 0, '-'
  if redis.call('XLEN', key) > 1000 then return end
  while true do
    local some = redis.call('XRANGE', key, after, '+', 'COUNT', 10)
    if #some == 0 then return entries end
    for _, entry in ipairs(some) do
      if #entry[2] > 1000 then return end
      for _, text in ipairs(entry[2]) do bytes = bytes + #text end
      entries[#entries + 1], after = entry, '(' .. entry[1]
    end
    if bytes > 8 * 1024 * 1024 then return end
    if entries[#entries][1] == LAST then return entries end
  end
end

-- The entry with the last id goes to the end under another; not while somebody works on it, unless the caller takes it out: `own`.
-- Answers whether the stream takes entries again.
local function renew(key, own)
  local entries, cursor = all_entries(key), cursor_of(key)
  if not entries then return false end
  local last = entries[#entries]
  local moved = last and last[1] == LAST and table.remove(entries)[2]
  if moved and own == LAST then moved = nil end
  if moved and cursor == LAST then return false end
  redis.call('DEL', key)
  for _, entry in ipairs(entries) do redis.call('XADD', key, entry[1], unpack(entry[2])) end
  if cursor then
    if cursor == LAST then cursor = #entries > 0 and entries[#entries][1] or '0' end
    redis.call('XGROUP', 'CREATE', key, 'g', cursor, 'MKSTREAM')
  end
  if moved then
    local has_id = false
    for i = 1, #moved, 2 do has_id = has_id or moved[i] == 'id' end
    if not has_id then moved[#moved + 1], moved[#moved + 2] = 'id', LAST end
    redis.call('XADD', key, '*', unpack(moved))
  end
  return true
end

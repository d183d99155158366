-- Defines: read, read_each, unread_from.
-- What nobody has read yet. The group is only a cursor; it is made again when somebody removed it.

-- Calls `XREADGROUP` on some streams, up to `count` of each.
local function read_of(keys, ...)
  local reply = redis.pcall('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', ...)
  if reply and reply.err then
    if not string.find(reply.err, 'NOGROUP', 1, true) then error(reply.err) end
    for _, key in ipairs(keys) do
      local made = redis.pcall('XGROUP', 'CREATE', key, 'g', '0', 'MKSTREAM')
      if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then error(made.err) end
    end
    reply = redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', ...)
  end
  return reply or {}
end

-- The next entries of one stream.
local function read(key, count)
  local streams = read_of({ key }, count, 'NOACK', 'STREAMS', key, '>')
  return streams[1] and streams[1][2] or {}
end

-- The next entry of each stream that has one.
local function read_each(keys)
  local call = { 1, 'NOACK', 'STREAMS', unpack(keys) }
  for _ = 1, #keys do call[#call + 1] = '>' end
  local next_of = {}
  for _, stream in ipairs(read_of(keys, unpack(call))) do next_of[stream[1]] = stream[2][1] end
  return next_of
end

-- Puts the cursor back, before an entry that was read.
local function unread_from(key, id)
  local before = redis.call('XREVRANGE', key, '(' .. id, '-', 'COUNT', 1)[1]
  redis.call('XGROUP', 'SETID', key, 'g', before and before[1] or '0')
end

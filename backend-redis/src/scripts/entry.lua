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

-- A lease is `priority:stream id:nonce:max attempts:consumer` with its end as score.
local function lease_parts(member)
  local p, id, max, consumer = string.match(member, '^(%d+):(%d+%-%d+):[^:]*:(%d+):(.*)$')
  return p, id, tonumber(max), consumer
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

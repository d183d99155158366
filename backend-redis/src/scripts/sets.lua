-- Needs: keys. Defines: moved, on_set.
-- What stands where a set of ours belongs and is none is set aside, under the key's name with `:aside` behind it: which keys.
local moved = {}

-- The times of what was put off are lost with the set: all of it comes, rather than never.
local function due_now(key)
  local at = tonumber(redis.call('TIME')[1]) * 1000
  for _, uid in ipairs(redis.call('HKEYS', string.sub(key, 1, -2) .. 'b')) do redis.call('ZADD', key, at, uid) end
end

-- Calls a command on a set.
local function on_set(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if not string.find(answer.err, 'WRONGTYPE', 1, true) then error(answer.err) end
  redis.call('RENAME', key, key .. ':aside')
  moved[#moved + 1] = key
  if string.sub(key, -2) == ':d' then due_now(key) end
  return redis.call(command, key, ...)
end

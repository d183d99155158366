-- What a queue was declared to be, apart from its name and bindings, and what priorities it has had; nothing for one that is not
-- declared.
local NONE = {}

local function rules_of(P)
  local found = redis.call('HMGET', P .. ':q', 'v', 'rules', 'ps')
  if not found[1] then return end
  return found[2] and cjson.decode(found[2]) or NONE, found[3] or ''
end

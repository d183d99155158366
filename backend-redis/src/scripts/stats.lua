-- KEYS: the queue's. Applies what is due. Answers 0: no such queue; else { whether there may be more due, how many letters it
-- dropped }, and when there is no more { …, ready, dead, delayed, in flight, ms that the oldest ready message has been ready
-- or -1 }.
--- @include keys
--- @include library
--- @include cursor

local rules = rules_of(0)
if not rules then return 0 end
local more, ready = apply_due(0, rules)
if ready > 0 then wake(0, WAITERS, ready) end
if more then return { 1, dropped[0] or 0 } end

local in_flight = redis.call('ZCOUNT', KEYS[LEASES], '(' .. BACK, '+inf')
local entries, oldest = 0, now + 1
for p = 1, 10 do
  local key = KEYS[p]
  local length = redis.call('XLEN', key)
  entries = entries + length
  local id = length > 0 and first_ready(0, p)
  local since = id and tonumber(string.match(id, '^%d+'))
  if since and since < oldest then oldest = since end
end
return {
  0, dropped[0] or 0, math.max(0, entries - in_flight), redis.call('XLEN', KEYS[DEAD]),
  redis.call('ZCARD', KEYS[DUE]), in_flight, oldest > now and -1 or now - oldest,
}

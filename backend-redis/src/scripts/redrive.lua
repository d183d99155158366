-- KEYS: the queue's. ARGV: ids of dead letters, 100 at most. Each becomes ready again at the end of its priority, attempts from 1,
-- its time to live from now; it looks at no key. Answers 0: no such queue; else for each 1: ready again, 0: was not there; and
-- last how many letters were dropped.
--- @include keys
--- @include library

local rules = rules_of(0)
if not rules then return 0 end
retain(0, rules.dead)
local answers, ready = {}, 0
for i, dead in ipairs(ARGV) do
  local entry = redis.call('XRANGE', KEYS[DEAD], dead, dead)[1]
  answers[i] = entry and 1 or 0
  if entry then
    local fields, total, id, p = entry[2], 0, entry[1], 5
    if fields[1] == 'dr' then
      total, id, p = tonumber(fields[8]), fields[12], priority(fields[14]) or 5
      fields = { unpack(fields, 15) }
    end
    local lifetime = ms(get(fields, 'tl'))
    local ends = lifetime and time_text(from + lifetime) or false
    local redriven = count(fields, 'rd') + 1
    must(make_ready(0, p, kept(fields, id, { a = false, m = false, ta = total, rd = redriven, e = ends })))
    redis.call('XDEL', KEYS[DEAD], dead)
    ready = ready + 1
  end
end
if ready > 0 then wake(0, WAITERS, ready) end
answers[#answers + 1] = dropped[0] or 0
return answers

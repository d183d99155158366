-- KEYS: queue. ARGV: ids of dead letters, 100 at most. Each becomes ready again at the end of its priority, attempts from 1.
-- Answers 0: no such queue; else for each 1: ready again, 0: was not there.
local P = KEYS[1]
if redis.call('EXISTS', P .. ':q') == 0 then return 0 end
local answers, ready = {}, 0
for i, dead in ipairs(ARGV) do
  local entry = redis.call('XRANGE', P .. ':dlq', dead, dead)[1]
  answers[i] = entry and 1 or 0
  if entry then
    local fields, total, id, p = entry[2], 0, entry[1], 5
    if fields[1] == 'dr' then
      total, id, p = tonumber(fields[8]), fields[12], fields[14]
      fields = { unpack(fields, 15) }
    end
    local redriven = count(fields, 'rd') + 1
    redis.call('XADD', P .. ':s:' .. p, '*', unpack(kept(fields, id, { a = false, ta = total, rd = redriven })))
    redis.call('XDEL', P .. ':dlq', dead)
    ready = ready + 1
  end
end
if ready > 0 then wake(P, ready > 16 and 16 or ready) end
return answers

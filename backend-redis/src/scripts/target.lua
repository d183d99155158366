-- A queue that a call publishes to: what it was declared to be, and what the call does to it. Nothing for one that is not
-- declared.
local function aim(P)
  local rules, used = rules_of(P)
  if not rules then return end
  return { P = P, rules = rules, used = used, streams = {}, news = 0, duplicates = 0, overflowed = 0 }
end

-- Tells its consumers, and says what was done: whether it makes publishers wait, duplicates, messages dropped to make room,
-- letters that are not kept.
local function finish(target, counts)
  local P, bound = target.P, target.rules.bound
  -- A new earliest due time is news for somebody who sleeps until the old one.
  if target.delayed and target.delayed[redis.call('ZRANGE', P .. ':d', 0, 0)[1]] then target.news = target.news + 1 end
  local newest = target.newest
  if target.news == 1 and newest and not failed(newest.id) then
    local given = hand_over(P, newest.p, newest.id, newest.bytes, target.used, clock)
    if given then redis.call('ZREM', P .. ':x', newest.p .. ':' .. newest.id) end
  elseif target.news > 0 then
    wake(P, target.news > 16 and 16 or target.news)
  end
  if target.overflowed > 0 then retain(P, target.rules.dead) end
  local n = #counts
  counts[n + 1], counts[n + 2] = bound and bound.overflow == 'block' and 1 or 0, target.duplicates
  counts[n + 3], counts[n + 4] = target.overflowed, dropped[P] or 0
end

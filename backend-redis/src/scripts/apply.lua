-- KEYS: the queue's. Applies what is due. Answers 0: no such queue; else { whether there may be more, how many letters it dropped }.
--- @include keys
--- @include library

local rules = rules_of(0)
if not rules then return 0 end
local more, ready = apply_due(0, rules)
if ready > 0 then wake(0, WAITERS, ready) end
return { more and 1 or 0, dropped[0] or 0 }

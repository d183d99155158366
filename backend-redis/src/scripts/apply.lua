-- KEYS: queue. Applies what is due. Answers 0: no such queue; else { whether there may be more, how many letters it dropped }.
local P = KEYS[1]
local rules = rules_of(P)
if not rules then return 0 end
local more, ready = apply_due(P, rules)
if ready > 0 then wake(P, ready > 16 and 16 or ready) end
return { more and 1 or 0, dropped[P] or 0 }

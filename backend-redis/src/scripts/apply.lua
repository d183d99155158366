-- KEYS: queue. Applies what is due. Answers 0: no such queue, 1: there may be more, 2: nothing more is due.
local P = KEYS[1]
if redis.call('EXISTS', P .. ':q') == 0 then return 0 end
local more, ready = apply_due(P, now)
if ready > 0 then wake(P, ready > 16 and 16 or ready) end
return more and 1 or 2

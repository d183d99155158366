-- The keys of a queue, declared at the same places by every script that works on it. `KEYS[p]` is the stream of priority p.
local QUEUE = 11 -- q
local LEASES = 12 -- l
local WAITERS = 13 -- w
local EXPIRING = 14 -- x
local DEDUP_ENDS = 15 -- k
local DEDUP_OWNERS = 16 -- u
local DUE = 17 -- d
local BODIES = 18 -- b
local DELAYED = 19 -- i
local DEAD = 20 -- dlq
local PUBLISHERS = 21 -- p
local ALL = 21

-- KEYS: the queue's. ARGV, for each message: shape, (delay in ms, uid,) (time to live in ms,) (dedup key,) id, time of publish,
-- payload, other names and values. The shape is 1000 × priority + how many other names and values, and more for what stands in
-- brackets: 100000 for a delay, 200000 for a time to live, 400000 for a key. Few arguments, for each costs as much as the rest
-- of a small message.
-- Answers 0: no such queue; else { { makes publishers wait, duplicates, dropped to make room, letters dropped }, { for each
-- message that was not stored its position from 1, why not, 1, what belongs to it }… }: see placing.lua.
--- @include keys
--- @include library
--- @include placing

local target = target_of(0)
if not target then return 0 end
target.number = 1
local targets, counts = { target }, {}
local refused = place_all(1, function() return targets end)
finish(target, counts)
return { counts, refused }

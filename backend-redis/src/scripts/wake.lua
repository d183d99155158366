-- Wakes up to `count` of those that wait in a set, those that wait longest first. Nobody listens to a dead one's channel: the
-- next. Never fails: what was stored is stored, and who is not woken asks by himself.
local function rouse(P, set, count)
  for _ = 1, 32 do
    if count <= 0 then return end
    local waiter = redis.pcall('ZPOPMIN', P .. set)[1]
    if not waiter then return end
    local channel, token = string.match(waiter, '^([^|]*)|(%d+)')
    local heard = channel and redis.pcall('PUBLISH', channel, token .. '|' .. P)
    if type(heard) == 'number' and heard > 0 then count = count - 1 end
  end
end

-- Wakes consumers.
local function wake(P, count)
  rouse(P, ':w', count)
end

-- Wakes up to `count` waiting consumers, those that wait longest first. Nobody listens to a dead one's channel: the next.
-- Never fails: what was stored is stored, and who is not woken asks within five seconds.
local function wake(P, count)
  for _ = 1, 32 do
    if count <= 0 then return end
    local waiter = redis.pcall('ZPOPMIN', P .. ':w')[1]
    if not waiter then return end
    local channel, token = string.match(waiter, '^(.*)|(.*)$')
    local heard = channel and redis.pcall('PUBLISH', channel, token .. '|' .. P)
    if type(heard) == 'number' and heard > 0 then count = count - 1 end
  end
end

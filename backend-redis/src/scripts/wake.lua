-- Wakes up to `count` waiting consumers, those that wait longest first. Nobody listens to a dead one's channel: the next.
local function wake(P, count)
  for _ = 1, 32 do
    if count <= 0 then return end
    local waiter = redis.call('ZPOPMIN', P .. ':w')[1]
    if not waiter then return end
    local channel, token = string.match(waiter, '^(.*)|(.*)$')
    if channel and redis.call('PUBLISH', channel, token .. '|' .. P) > 0 then count = count - 1 end
  end
end

-- Needs: keys. Defines: prefix_of, wake.
-- `at` is where the keys of a queue begin, less one: 0 where a script works on one queue.

-- What the keys of a queue begin with: its name where it is not a key.
local function prefix_of(at)
  return string.sub(KEYS[at + QUEUE], 1, -3)
end

-- Wakes up to `count`, 16 at most, of those that wait in a set, those that wait longest first. Nobody listens to a dead one's
-- channel: the next, for a process with hundreds of consumers may have been killed. Never fails: what was stored is stored, and who
-- is not woken asks by himself.
local function wake(at, set, count)
  count = math.min(16, count)
  for _ = 1, 512 do
    if count <= 0 then return end
    local waiter = redis.pcall('ZPOPMIN', KEYS[at + set])[1]
    if not waiter then return end
    local channel, number = string.match(waiter, '^([^|]*)|(%d+)')
    local heard = channel and redis.pcall('PUBLISH', channel, number .. '|' .. prefix_of(at))
    if type(heard) == 'number' and heard > 0 then count = count - 1 end
  end
end

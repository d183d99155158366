-- Needs: keys, version, changes (the names of two keys). Defines: routes_changed.
-- `changes` keeps which queue's routes changed last at which number, and under no name the number from which on it is complete: who
-- knows an older version reads the whole catalogue. As many as are kept at most, and after there were more:
local MOST, KEPT = 10000, 5000

-- Another version, never used before, because a queue's routes have changed: an epoch and a number that grows.
local function routes_changed(epoch, name)
  local number = tonumber(string.match(redis.call('GET', version) or '', '%.(%d+)$'))
  if not number or number >= 2 ^ 53 then
    -- None, or an earlier release's: nobody knows what changed before.
    redis.call('DEL', changes)
    local time = redis.call('TIME')
    number = time[1] * 1000000 + time[2]
  end
  if not redis.call('ZSCORE', changes, '') then redis.call('ZADD', changes, string.format('%.0f', number), '') end
  local next_number = string.format('%.0f', number + 1)
  redis.call('ZADD', changes, next_number, name)
  redis.call('SET', version, epoch .. '.' .. next_number)
  if redis.call('ZCARD', changes) > MOST then
    local last = redis.call('ZRANGE', changes, -KEPT - 1, -KEPT - 1, 'WITHSCORES')[2]
    redis.call('ZREMRANGEBYSCORE', changes, '-inf', last)
    redis.call('ZADD', changes, last, '')
  end
end

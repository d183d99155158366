-- Needs: keys. Defines: digit, with_priority, LARGE, note_large.
-- The priorities that a queue has ever had, a digit each. Most have one: to look into nine more streams would cost more than all
-- the rest.
local function digit(p)
  return string.sub('123456789a', p, p)
end

local function with_priority(at, used, p)
  if string.find(used, digit(p), 1, true) then return used end
  used = used .. digit(p)
  redis.call('HSET', KEYS[at + QUEUE], 'ps', used)
  return used
end

-- Whoever reads a queue that has had messages of more bytes reads one at a time: no size is known before it is read.
local LARGE = 64 * 1024

local function note_large(at)
  redis.call('HSETNX', KEYS[at + QUEUE], 'large', '1')
end

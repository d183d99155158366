-- Dead letters: written when a message dies, kept for as long as the queue was declared to keep them. At most 100 entries or
-- about 8 MiB a call.
local K, BYTES = 100, 8 * 1024 * 1024

-- How many this call dropped, by queue.
local dropped = {}

local function size(fields)
  return #(get(fields, 'data') or '')
end

-- Writes a dead letter: seven fields of the death, then the message's own. Its key is free. Answers like `pcall`.
local function bury(P, p, id, fields, reason, text, attempts, consumer)
  local total = attempts + count(fields, 'ta')
  local own = #fields > 1000 and kept(fields, id, {}) or fields
  local stored = redis.pcall('XADD', P .. ':dlq', '*', 'dr', reason, 'de', text, 'da', attempts, 'dt', total,
    'dc', consumer, 'do', id, 'dp', p, unpack(own))
  if not failed(stored) then free(P, fields, id) end
  return stored
end

-- Drops letters that have been dead for too long. Answers whether there may be more.
local function drop_old(P, age)
  local bound, swept, bytes = time_text(math.max(0, now - age - 1)), 0, 0
  while swept < K and bytes < BYTES do
    local entries = redis.call('XRANGE', P .. ':dlq', '-', bound, 'COUNT', 10)
    if #entries == 0 then return false end
    local ids = {}
    for i, entry in ipairs(entries) do
      ids[i] = entry[1]
      bytes = bytes + size(entry[2])
    end
    swept = swept + redis.call('XDEL', P .. ':dlq', unpack(ids))
    dropped[P] = (dropped[P] or 0) + #ids
  end
  return true
end

-- Drops letters beyond what is to be kept, the oldest first. Answers whether there may be more.
local function retain(P, keep)
  if not keep then return false end
  if keep.max_len then
    local over = redis.call('XTRIM', P .. ':dlq', 'MAXLEN', '=', time_text(keep.max_len))
    dropped[P] = (dropped[P] or 0) + over
  end
  return keep.max_age_ms ~= nil and drop_old(P, keep.max_age_ms)
end

-- KEYS: queue. ARGV, for each message: shape, (delay in ms, uid,) (time to live in ms,) (dedup key,) id, time of publish,
-- payload, other names and values. The shape is 1000 × priority + how many other names and values, and more for what stands in
-- brackets: 100000 for a delay, 200000 for a time to live, 400000 for a key. Few arguments, for each costs as much as the rest
-- of a small message.
-- Answers 0: no such queue; else { { makes publishers wait, duplicates, dropped to make room, letters dropped }, { for each
-- message that was not stored its position from 1, why not, 1, what belongs to it }… }: see place.lua.
local target = aim(KEYS[1])
if not target then return 0 end
target.number = 1
local targets, refused, streams = { target }, {}, {}
local bound, i, last, position = target.rules.bound, 1, #ARGV, 0
for p = 1, 10 do streams[p] = KEYS[1] .. ':s:' .. p end

local function refuse(code, number, detail)
  local n = #refused
  refused[n + 1], refused[n + 2], refused[n + 3], refused[n + 4] = position, code, number, detail
end

while i <= last do
  local shape = tonumber(ARGV[i])
  position = position + 1
  if shape < 100000 and not bound then
    -- Nothing to think of: most messages are of this kind.
    local others, stored = shape % 1000, nil
    if others == 0 then
      stored = redis.pcall('XADD', streams[math.floor(shape / 1000)], '*', 'v', '1', 'id', ARGV[i + 1],
        't', ARGV[i + 2], 'data', ARGV[i + 3])
    else
      stored = redis.pcall('XADD', streams[math.floor(shape / 1000)], '*', 'v', '1', 'id', ARGV[i + 1],
        't', ARGV[i + 2], 'data', unpack(ARGV, i + 3, i + 3 + others))
    end
    target.news = target.news + 1
    if failed(stored) then refuse('E', 1, stored.err) end
    i = i + 4 + others
  else
    local m
    m, i = message_at(i)
    local code, number, detail = place(targets, m)
    if code then refuse(code, number, detail) end
  end
end

local counts = {}
finish(target, counts)
return { counts, refused }

-- The server's clock, the only one that decides. `now` is rounded down and says what is due; `from` is rounded up and is
-- what delays and leases are counted from: so nothing is ever early.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local from = clock[1] * 1000 + math.ceil(clock[2] / 1000)

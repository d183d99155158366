-- KEYS: queue, catalogue. ARGV: name, spec as JSON. Makes what is missing, changes nothing that is there.
local P = KEYS[1]
for p = 1, 10 do
  local made = redis.pcall('XGROUP', 'CREATE', P .. ':s:' .. p, 'g', '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
end
redis.call('HSETNX', P .. ':q', 'v', '1')
redis.call('HSETNX', P .. ':q', 'spec', ARGV[2])
redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2])
return 1

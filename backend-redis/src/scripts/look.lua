-- KEYS: catalogue, version of the routes, what each queue is declared to be. ARGV: the names of the queues. Answers the version or '', and of
-- each queue what the catalogue says or '', which version made it, '' where it is not there, and its rules or ''. What has
-- another type than ours is not there.
local answer = { redis.call('GET', KEYS[2]) or '' }
for i, name in ipairs(ARGV) do
  local made = redis.pcall('HMGET', KEYS[i + 2], 'v', 'rules')
  if made.err then made = {} end
  local n = #answer
  answer[n + 1] = redis.call('HGET', KEYS[1], name) or ''
  answer[n + 2], answer[n + 3] = made[1] or '', made[2] or ''
end
return answer

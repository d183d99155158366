-- KEYS: the queue's. ARGV: lease in ms, lease… Answers for each: 1 ours for another lease from now, 0 not ours any more.
--- @include keys
--- @include time

local answers = {}
for i = 2, #ARGV do
  local score = redis.call('ZSCORE', KEYS[LEASES], ARGV[i])
  if score and tonumber(score) > now then
    redis.call('ZADD', KEYS[LEASES], 'XX', from + tonumber(ARGV[1]), ARGV[i])
    answers[i - 1] = 1
  else
    answers[i - 1] = 0
  end
end
return answers

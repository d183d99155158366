-- KEYS: queue. ARGV: id of a message, ms from now or '' to remove it. Answers 0: no such queue, 1: done, 2: none with this id
-- waits for its time.
local P = KEYS[1]
if not rules_of(P) then return 0 end
local uid = redis.call('HGET', P .. ':i', ARGV[1])
local due = uid and redis.call('ZSCORE', P .. ':d', uid)
if not due or tonumber(due) <= now then return 2 end
if ARGV[2] == '' then
  local _, fields = opened(redis.call('HGET', P .. ':b', uid) or '')
  if fields then free(P, fields, ARGV[1]) end
  forget_waiting(P, uid, fields)
  return 1
end
redis.call('ZADD', P .. ':d', 'XX', from + tonumber(ARGV[2]), uid)
if redis.call('ZRANGE', P .. ':d', 0, 0)[1] == uid then wake(P, 1) end
return 1

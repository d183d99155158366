-- KEYS: the queue's. ARGV: id of a message, ms from now or '' to remove it. Answers 0: no such queue, 1: done, 2: none with this id
-- waits for its time.
--- @include keys
--- @include library

if not rules_of(0) then return 0 end
local uid = redis.call('HGET', KEYS[DELAYED], ARGV[1])
local due = uid and redis.call('ZSCORE', KEYS[DUE], uid)
if not due or tonumber(due) <= now then return 2 end
if ARGV[2] == '' then
  local _, fields = read_delayed(redis.call('HGET', KEYS[BODIES], uid) or '')
  if fields then free_key(0, fields, ARGV[1]) end
  forget_delayed(0, uid, fields)
  return 1
end
redis.call('ZADD', KEYS[DUE], 'XX', from + tonumber(ARGV[2]), uid)
if redis.call('ZRANGE', KEYS[DUE], 0, 0)[1] == uid then wake(0, WAITERS, 1) end
return 1

-- KEYS: the catalogue. Answers those commands of our scripts that the user may not run on it: a script that is refused in its middle does
-- not say by whom.
local key, denied = KEYS[1], {}
local commands = {
  { 'DEL', key }, { 'EXISTS', key }, { 'GET', key }, { 'HDEL', key, 'f' }, { 'HEXISTS', key, 'f' }, { 'HGET', key, 'f' },
  { 'HGETALL', key }, { 'HKEYS', key }, { 'HMGET', key, 'f' }, { 'HSET', key, 'f', 'v' }, { 'HSETNX', key, 'f', 'v' }, { 'INFO', 'memory' },
  { 'PUBLISH', key, '' }, { 'RENAME', key, key }, { 'SET', key, 'v' }, { 'TIME' }, { 'UNLINK', key }, { 'XADD', key, '*', 'f', 'v' }, { 'XDEL', key, '1-1' },
  { 'XGROUP', 'CREATE', key, 'g', '0' }, { 'XGROUP', 'SETID', key, 'g', '0' }, { 'XINFO', 'GROUPS', key }, { 'XLEN', key },
  { 'XRANGE', key, '-', '+' }, { 'XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', key, '>' }, { 'XREVRANGE', key, '+', '-' },
  { 'XTRIM', key, 'MAXLEN', '1' }, { 'ZADD', key, '1', 'm' }, { 'ZCARD', key }, { 'ZCOUNT', key, '0', '1' }, { 'ZMSCORE', key, 'm' },
  { 'ZPOPMIN', key }, { 'ZRANGE', key, '0', '1' }, { 'ZRANGEBYSCORE', key, '0', '1' }, { 'ZREM', key, 'm' },
  { 'ZREMRANGEBYSCORE', key, '0', '1' }, { 'ZSCORE', key, 'm' },
}
for _, words in ipairs(commands) do
  if not redis.acl_check_cmd(unpack(words)) then denied[#denied + 1] = words[1] end
end
return denied

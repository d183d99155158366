-- KEYS: catalogue, version of the routes. Answers { version or '', { name, spec… } }.
return { redis.call('GET', KEYS[2]) or '', redis.call('HGETALL', KEYS[1]) }

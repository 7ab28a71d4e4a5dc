local refused = fenced()
if refused then return refused end
local revision = live(key)
if not revision then return {'absent'} end
return {'entry', decimal(revision), redis.call('HGET', values, key)}

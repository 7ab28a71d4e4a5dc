-- ARGV: 7 value, 8 ms to live or 0, 9 expected revision or '', 10 most keys, 11 most bytes
local value, ttl, expect = ARGV[7], tonumber(ARGV[8]), ARGV[9]
local revision, size = live(key)
if expect ~= '' and decimal(revision or 0) ~= expect then return finish('conflict', revision or 0) end

local function beyond()
  if not revision and redis.call('HLEN', heads) >= tonumber(ARGV[10]) then return 'keys' end
  local freed = 0
  if revision then freed = #key + size end
  local wanted = #key + #value
  local used = tonumber(redis.call('HGET', meta, 'bytes') or 0)
  if wanted > freed and used - freed + wanted > tonumber(ARGV[11]) then return 'bytes' end
end

local over = beyond()
while over and purge(1000) > 0 do over = beyond() end
if over then return finish(over, 0) end

local given = nextRevision()
local stop = 0
if ttl > 0 then
  stop = now + 1 + ttl -- now is cut to the millisecond, and nothing ends early
  redis.call('ZADD', ends, stop, key)
elseif revision then
  redis.call('ZREM', ends, key)
end
redis.call('HSET', heads, key, decimal(given) .. ' ' .. decimal(stop) .. ' ' .. #value)
redis.call('HSET', values, key, value)
if revision then
  redis.call('HINCRBY', meta, 'bytes', #value - size)
else
  redis.call('ZADD', index, 0, key)
  redis.call('HINCRBY', meta, 'bytes', #key + #value)
end
return finish('set', given)

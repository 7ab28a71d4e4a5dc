-- What scripts that write go on with. KEYS[7] remembers the write for ARGV[6]
-- milliseconds, unless ARGV[5], the sum of what is asked, is empty.
local remembered, body, window = KEYS[7], ARGV[5], ARGV[6]

local function repeated()
  if body == '' then return end
  local before = redis.call('GET', remembered)
  if not before then return end
  local sum, result, revision = string.match(before, '^(%S+) (%S+) (%S+)$')
  if sum ~= body then return {'reused'} end
  return {result, revision}
end

local function finish(result, revision)
  if body ~= '' then
    redis.call('SET', remembered, body .. ' ' .. result .. ' ' .. decimal(revision), 'PX', window)
  end
  return {result, decimal(revision)}
end

local refused = repeated() or fenced()
if refused then return refused end
purge(4)

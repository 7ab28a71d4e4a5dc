-- What every script begins with. A namespace is
--   heads   hash: key -> "revision end size", end in ms since the epoch, 0 is never
--   values  hash: key -> value
--   index   sorted set of all keys, all of score 0, and so in order of bytes
--   ends    sorted set of the keys whose time will run out, by when
--   meta    hash: revision, the highest that was given; bytes, of keys and values
--   fences  hash: "instance/incarnation" -> the highest epoch that was seen
-- all in one slot of a cluster.
local heads, values, index, ends, meta, fences = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local caller, epoch, exclusive, key = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function decimal(n) return string.format('%.0f', n) end

-- fenced returns the answer to a caller whose epoch was superseded, or nil.
local function fenced()
  local held = tonumber(redis.call('HGET', fences, caller) or 0)
  if epoch < held then return {'fenced', decimal(held)} end
  if exclusive and epoch > held then redis.call('HSET', fences, caller, decimal(epoch)) end
end

local function remove(k, size)
  redis.call('HDEL', heads, k)
  redis.call('HDEL', values, k)
  redis.call('ZREM', index, k)
  redis.call('ZREM', ends, k)
  redis.call('HINCRBY', meta, 'bytes', -(#k + size))
end

local function head(k)
  local h = redis.call('HGET', heads, k)
  if not h then return end
  local revision, stop, size = string.match(h, '^(%d+) (%d+) (%d+)$')
  return tonumber(revision), tonumber(stop), tonumber(size)
end

-- live returns the revision and the size of an entry, or nil. What is seen to
-- have run out is removed at once: should the clock go back, it is gone all the same.
local function live(k)
  local revision, stop, size = head(k)
  if not revision then return end
  if stop > 0 and stop <= now then
    remove(k, size)
    return
  end
  return revision, size
end

local function purge(limit)
  local gone = redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, limit)
  for _, k in ipairs(gone) do
    -- Whatever it is that stays, it must not be met again for ever.
    if live(k) then redis.call('ZREM', ends, k) end
  end
  return #gone
end

local function nextRevision() return redis.call('HINCRBY', meta, 'revision', 1) end

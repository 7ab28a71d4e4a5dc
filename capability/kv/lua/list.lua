-- ARGV: 5 lower bound, 6 upper bound, as ZRANGEBYLEX has them, 7 limit, 8 most bytes
local refused = fenced()
if refused then return refused end
local low, high, limit, most = ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local page, size = {'page', '0'}, 0
while true do
  local batch = redis.call('ZRANGEBYLEX', index, low, high, 'LIMIT', 0, math.min(limit + 1, 256))
  if #batch == 0 then return page end
  for _, k in ipairs(batch) do
    if live(k) then
      if #page - 2 == limit or #page > 2 and size + #k > most then
        page[2] = '1'
        return page
      end
      page[#page + 1] = k
      size = size + #k
    end
  end
  low = '(' .. batch[#batch]
end

-- needs: keys queue/unpacking queue/records
-- The edges of the tasks that have not ended, and of those whose end is being told. It changes nothing.
-- KEYS  the queue's (redis/keys.py)
-- ARGV  1 tag or edges  2 cursor of the scan  3 about so many members
-- REPLY {next cursor, members looked at, their bytes, {{partition, id, position}, ...}}
local of_tags = ARGV[1] == 'tag'
local page = redis.call('HSCAN', of_tags and tag or edges, ARGV[2], 'COUNT', ARGV[3])
local found, bytes = {}, 0
local telling = redis.call('EXISTS', jobs) == 1
for i = 1, #page[2], 2 do
  local field, value = page[2][i], page[2][i + 1]
  bytes = bytes + #field + #value
  local id = of_tags and field or string.match(field, '^(.*):%d+$')
  local some
  if id and (redis.call('HEXISTS', task, id) == 1 or telling and not of_tags) then
    if of_tags then some = (sound_tag(value) or {}).n else some = unpacked(value) end
  end
  for _, edge in ipairs(some or {}) do
    local queue, waiting, position = unpack(type(edge) == 'table' and edge or {}, 1, 3)
    if text_or_nil(queue) and text_or_nil(waiting) and number_or_nil(position) then
      found[#found + 1] = {queue, waiting, position}
    end
  end
end
return {page[1], #page[2] / 2, bytes, found}

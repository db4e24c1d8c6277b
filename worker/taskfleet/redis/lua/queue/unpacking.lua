-- Packed records that another program may have written. A part of the wrong type counts as missing, so that no record
-- stops a queue.

-- The map or list in `packed`; nil when there is none.
local function unpacked(packed)
  local sound, value = pcall(cmsgpack.unpack, packed)
  return sound and type(value) == 'table' and value or nil
end

local function text_or_nil(value) return type(value) == 'string' and value or nil end
local function number_or_nil(value) return type(value) == 'number' and value or nil end

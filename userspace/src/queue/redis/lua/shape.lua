-- What of an entry is handed to a worker. Stands in front of read.lua and claim.lua.
--
-- Only fields that are known are sent, each at its own place, and of a value that is longer than `longest` only its
-- length: whoever put it there cannot fill the worker's memory.

local PLACES = {
  route = 2, producer = 3, seq = 4, size = 5, parts = 6, exchange = 7, ['exchange.zst'] = 8,
  encoding = 9,
}

-- {id, route, producer, seq, size, parts, exchange, exchange.zst, encoding}, and its bytes.
local function shape(entry, longest)
  local shaped = { entry[1], false, false, false, false, false, false, false, false }
  local fields, bytes = entry[2], 64
  for at = 1, #fields, 2 do
    local place, value = PLACES[fields[at]], fields[at + 1]
    if place then
      if #value > longest then
        shaped[place] = #value
      else
        shaped[place] = value
        bytes = bytes + #value
      end
    end
  end
  return shaped, bytes
end

-- Defines: newer.
-- What a script says of a queue that a later version of ours has made, of which it does not know what it means.
local function newer(key, version)
  return { err = 'NEWER the queue ' .. key .. ' is of version ' .. version .. ', this client knows 1: use a newer one' }
end

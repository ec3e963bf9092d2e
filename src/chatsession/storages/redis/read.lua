-- Return when sessions expire. An MGET after this script reads their values, because a value that passes through Lua
-- costs several times as much.
--
-- KEYS: the sessions.
-- Returns for each: when it expires (-1: never, or there is none), or an error if it is not a string.

local replies = {}
for number = 1, #KEYS do
  local size = redis.pcall('STRLEN', KEYS[number])
  replies[number] = type(size) == 'table' and size or size > 0 and expiry(KEYS[number]) or -1
end
return replies

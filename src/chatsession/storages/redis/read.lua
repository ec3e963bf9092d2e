-- Read sessions. Unlike MGET, this distinguishes a value that is not a string from a missing one.
--
-- KEYS: the sessions.
-- Returns for each: the value, and when it expires (-1: never).

local replies = {}
for number = 1, #KEYS do
  local value = redis.pcall('GET', KEYS[number])
  replies[2 * number - 1] = value
  replies[2 * number] = type(value) == 'string' and expiry(KEYS[number]) or -1
end
return replies

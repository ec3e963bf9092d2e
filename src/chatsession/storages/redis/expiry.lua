-- When a session expires, in milliseconds since 1970; -1: never. Redis before 7.0 has no PEXPIRETIME; there it follows
-- from the remaining time.
local function expiry(session)
  local at = redis.pcall('PEXPIRETIME', session)
  if type(at) == 'number' then return at end
  local left = redis.call('PTTL', session)
  if left < 0 then return -1 end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) + left
end

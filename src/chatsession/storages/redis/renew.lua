-- Renew leases.
--
-- KEYS: the locks. ARGV: for how many milliseconds from now; then the token of each lease.
-- Returns for each: 1, or 0 if it was lost.

local function renew(name, token)
  local lock = load_lock(name)
  if not holds(lock, token) then return 0 end
  lock[ENDS] = now() + tonumber(ARGV[1])
  save_lock(name, lock)
  if lock[COPY] then call('PEXPIRE', copy_of(name), left_of(lock) + GRACE) end
  return 1
end

local replies = {}
for number = 1, #KEYS do replies[number] = attempt(renew, KEYS[number], tonumber(ARGV[number + 1])) end
if refusal then return {err = refusal} end
return replies

-- Make changes, each if its expectation holds, and unlock.
--
-- KEYS: where the outcome of this call is remembered; then for each session, itself and its lock.
-- ARGV: for how many milliseconds to remember; 1 if it may be remembered already; what follows for each session,
--   packed; then the new value of each.
--   the action: P put, D delete, T touch, K keep;
--   the digest of the value that must be stored, - for none, * for anything;
--   the new value's milliseconds to live, or nothing: for ever;
--   the token of the lease that must hold, or nothing;
--   whether to unlock;
--   the millisecond from which on it is also fine that nothing is stored (the expected value expires then), or nothing.
-- Returns for each session: 1 done, 0 something else is stored, -1 the lease was lost; and for a touch or keep that
--   expects anything or found that the expected value has expired, the digest of what is stored, or - for none.

local function digest(session)
  local stored = call('GET', session)
  return stored and redis.sha1hex(stored) or '-'
end

local function change(session, action, expected, ttl, value, expires_at)
  local found = false
  if expected ~= '*' then
    local stored = digest(session)
    if stored ~= expected then
      if stored ~= '-' or expires_at == '' or expires_at > now() then return 0 end
      if action == 'K' or action == 'T' then return stored end
    end
  elseif action == 'K' or action == 'T' then
    found = digest(session)
  else
    call('STRLEN', session)  -- an error if it is not a string: it belongs to others and is left alone
  end
  if action == 'P' then
    if ttl == '' then call('SET', session, value) else call('SET', session, value, 'PX', ttl) end
  elseif action == 'D' then
    call('DEL', session)
  elseif action == 'T' then
    if ttl == '' then call('PERSIST', session) else call('PEXPIRE', session, ttl) end
  end
  return found or 1
end

local function commit(session, name, value, action, expected, ttl, token, unlock, expires_at)
  if token == '' then return change(session, action, expected, ttl, value, expires_at) end
  local lock = load_lock(name)
  if not holds(lock, token) then return -1 end
  local outcome = attempt(change, session, action, expected, ttl, value, expires_at)
  if unlock then release(name, lock) end
  return outcome
end

-- A reply can be lost, and a call may arrive after it was sent again. The first copy of a call that arrives does the
-- work; the others repeat its reply. The outcome is written again so that a `WAIT` after it covers the first one, too.
local remembered = ARGV[2] == '1' and redis.pcall('GET', KEYS[1])
if type(remembered) == 'string' then
  redis.pcall('SET', KEYS[1], remembered, 'PX', ARGV[1])
  return cmsgpack.unpack(remembered)
end

local outcomes = {}
for number, words in ipairs(cmsgpack.unpack(ARGV[3])) do
  outcomes[number] = attempt(commit, KEYS[2 * number], KEYS[2 * number + 1], ARGV[3 + number], unpack(words))
end
if refusal then return {err = refusal} end
redis.pcall('SET', KEYS[1], cmsgpack.pack(outcomes), 'PX', ARGV[1], 'NX')
return outcomes

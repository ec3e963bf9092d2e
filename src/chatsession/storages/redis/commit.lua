-- Make changes, each if its expectation holds, and unlock.
--
-- KEYS: where the outcome of this call is remembered; then for each session, itself and its lock.
-- ARGV: for how many milliseconds to remember; 1 if it may be remembered already; what follows for each session,
--   packed; then the new value of each.
--   the action: P put, D delete, T touch, K keep;
--   the digest of the value that must be stored, or the mark of its copy; - for none, * for anything;
--   the new value's milliseconds to live, or nothing: for ever;
--   the token of the lease that must hold, or nothing;
--   whether to unlock;
--   the millisecond from which on it is also fine that nothing is stored (the expected value expires then), or nothing;
--   the end of the key to which a large new value was sent, or nothing.
-- Returns for each session: 1 done, or the mark of the copy of a new value; 0 something else is stored, -1 the lease was
--   lost; and for a touch or keep that expects anything or found that the expected value has expired, the digest of what
--   is stored, - for none, or ? for a large value that the holder of its lock has not asked for.

local function digest(session)
  local stored = call('GET', session)
  return stored and redis.sha1hex(stored) or '-'
end

-- Whether what is expected is stored; if not, also whether nothing is.
local function compare(session, name, lock, expected)
  if type(expected) == 'number' then
    if lock[COPY] == expected and is_as_copied(session, name) then return true end
    return false, call('EXISTS', session) == 0
  end
  local stored = digest(session)
  return stored == expected, stored == '-'
end

local function put(session, ttl, value, new)
  if not new then
    if ttl == '' then call('SET', session, value) else call('SET', session, value, 'PX', ttl) end
    return
  end
  call('RENAME', new, session)
  if ttl == '' then call('PERSIST', session) else call('PEXPIRE', session, ttl) end
end

local function what_is_stored(session, lock, unlock)
  if unlock and lock and call('STRLEN', session) >= LARGE then return '?' end
  return digest(session)
end

-- The lock is nil where there is no lease.
local function change(session, name, lock, action, expected, ttl, value, unlock, expires_at, new)
  local found = 1
  if expected ~= '*' then
    local as_expected, is_missing = compare(session, name, lock, expected)
    if not as_expected then
      if not is_missing or expires_at == '' or expires_at > now() then return 0 end
      if action == 'K' or action == 'T' then return '-' end
    end
  elseif action == 'K' or action == 'T' then
    found = what_is_stored(session, lock, unlock)
  else
    call('STRLEN', session)  -- an error if it is not a string: it belongs to others and is left alone
  end
  if action == 'P' then
    put(session, ttl, value, new)
  elseif action == 'D' then
    call('DEL', session)
  elseif action == 'T' then
    if ttl == '' then call('PERSIST', session) else call('PEXPIRE', session, ttl) end
  end
  if unlock or not lock then return found end
  if action == 'P' and new then
    make_copy(session, name, lock)
    save_lock(name, lock)
    return lock[COPY] or 1
  end
  if type(expected) == 'number' and (action == 'K' or action == 'T') then
    make_copy(session, name, lock, expected)
    if not lock[COPY] then save_lock(name, lock) end
  end
  return found
end

local function commit(session, name, value, action, expected, ttl, token, unlock, expires_at, new)
  local lock
  if token ~= '' then
    lock = load_lock(name)
    if not holds(lock, token) then return -1 end
  end
  local outcome = attempt(change, session, name, lock, action, expected, ttl, value, unlock, expires_at, new)
  if lock and unlock then release(name, lock) end
  return outcome
end

local changes = cmsgpack.unpack(ARGV[3])
local sent = {}
for number, words in ipairs(changes) do
  local call_name = table.remove(words)
  if call_name ~= '' then
    sent[#sent + 1] = beside(KEYS[2 * number + 1], 'new') .. ':' .. call_name
    words[#words + 1] = sent[#sent]
  end
end

-- A reply can be lost, and a call may arrive after it was sent again. The first copy of a call that arrives does the
-- work; the others repeat its reply. The outcome is written again so that a `WAIT` after it covers the first one, too.
local remembered = ARGV[2] == '1' and redis.pcall('GET', KEYS[1])
if type(remembered) == 'string' then
  redis.pcall('SET', KEYS[1], remembered, 'PX', ARGV[1])
  if sent[1] then redis.pcall('UNLINK', unpack(sent)) end
  return cmsgpack.unpack(remembered)
end
if sent[1] and redis.call('EXISTS', unpack(sent)) < #sent then return {err = 'TRYAGAIN a value has not arrived'} end

local outcomes = {}
for number, words in ipairs(changes) do
  outcomes[number] = attempt(commit, KEYS[2 * number], KEYS[2 * number + 1], ARGV[3 + number], unpack(words))
end
if refusal then return {err = refusal} end
if sent[1] then redis.pcall('UNLINK', unpack(sent)) end
redis.pcall('SET', KEYS[1], cmsgpack.pack(outcomes), 'PX', ARGV[1], 'NX')
return outcomes

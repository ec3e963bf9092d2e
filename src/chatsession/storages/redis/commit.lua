-- Make changes, each if its expectation holds, and unlock.
--
-- KEYS: where the outcome of this call is remembered; then for each session, itself and its lock.
-- ARGV: for how many milliseconds to remember; what follows for each session, packed; then for each session, its new
--   value and the value that must be stored.
--   the action: P put, D delete, T touch, K keep;
--   what must be stored: true anything, false nothing, the mark of a copy, a digest in a table, or '' the value given;
--   the new value's milliseconds to live, or '' for ever;
--   the token of the lease that must hold, or '';
--   whether to unlock;
--   the millisecond from which on it is also fine that nothing is stored (the expected value expires then), or '';
--   the key to which a large new value was sent, or ''.
-- Returns for each session: 1 done, or the mark of the copy of a new value; 0 something else is stored, -1 the lease was
--   lost; and for a touch or keep that expects anything or found that the expected value has expired, the digest of what
--   is stored, - for none, or ? for a large value that the holder of its lock has not asked for.

local WORDS = 7  -- of each session in ARGV[2]

-- Whether what is expected is stored; if not, also whether nothing is.
local function compare(session, name, lock, expected)
  if type(expected) == 'number' then
    if lock[COPY] == expected and is_as_copied(session, name) then return true end
    return false, call('EXISTS', session) == 0
  end
  local stored = call('GET', session)
  if type(expected) == 'table' then return stored and redis.sha1hex(stored) == expected[1], not stored end
  return stored == expected, not stored
end

local function what_is_stored(session, lock, unlock)
  if unlock and lock and call('STRLEN', session) >= LARGE then return '?' end
  local stored = call('GET', session)
  return stored and redis.sha1hex(stored) or '-'
end

local function set_expiry(session, ttl)
  if ttl == '' then call('PERSIST', session) else call('PEXPIRE', session, ttl) end
end

local function put(session, value, ttl, sent_to)
  if sent_to ~= '' then
    call('RENAME', sent_to, session)
    set_expiry(session, ttl)
  elseif ttl == '' then
    call('SET', session, value)
  else
    call('SET', session, value, 'PX', ttl)
  end
end

-- Without a lease, the lock is nil.
local function change(session, name, lock, value, action, expected, ttl, unlock, expires_at, sent_to)
  local found = 1
  if expected ~= true then
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
    put(session, value, ttl, sent_to)
  elseif action == 'D' then
    call('DEL', session)
  elseif action == 'T' then
    set_expiry(session, ttl)
  end
  if unlock or not lock then return found end
  if sent_to ~= '' then
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

local function commit(session, name, value, given, action, expected, ttl, token, unlock, expires_at, sent_to)
  local lock
  if token ~= '' then
    lock = load_lock(name)
    if not holds(lock, token) then return -1 end
  end
  if expected == '' then expected = given end
  local outcome = attempt(change, session, name, lock, value, action, expected, ttl, unlock, expires_at, sent_to)
  if lock and unlock then release(name, lock) end
  return outcome
end

local words, sent = cmsgpack.unpack(ARGV[2]), {}
for last = WORDS, #words, WORDS do
  if words[last] ~= '' then sent[#sent + 1] = words[last] end
end

-- A reply can be lost, and a call may arrive after it was sent again. The first copy of a call that arrives does the
-- work; the others repeat its reply. The outcome is written again so that a `WAIT` after it covers the first one, too.
local remembered = redis.pcall('GET', KEYS[1])
if type(remembered) == 'string' then
  redis.pcall('SET', KEYS[1], remembered, 'PX', ARGV[1])
  if sent[1] then redis.pcall('UNLINK', unpack(sent)) end
  return cmsgpack.unpack(remembered)
end
if sent[1] and redis.call('EXISTS', unpack(sent)) < #sent then return {err = 'TRYAGAIN a value has not arrived'} end

local outcomes = {}
for number = 1, #words / WORDS do
  local session, name = KEYS[2 * number], KEYS[2 * number + 1]
  local value, given, last = ARGV[2 * number + 1], ARGV[2 * number + 2], WORDS * number
  outcomes[number] = attempt(commit, session, name, value, given, unpack(words, last - WORDS + 1, last))
end
if refusal then return {err = refusal} end
if sent[1] then redis.pcall('UNLINK', unpack(sent)) end
redis.pcall('SET', KEYS[1], cmsgpack.pack(outcomes), 'PX', ARGV[1])
return outcomes

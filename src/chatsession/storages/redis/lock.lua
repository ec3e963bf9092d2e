-- Try to lock sessions. An MGET after this script reads their values, as in read.
--
-- KEYS: for each session, itself and its lock.
-- ARGV: packed: the newest token that the client knows, its channel, the waiter of each session, and the milliseconds
--   of each lease.
-- Returns for each session: the token, the mark of its copy (0: there is none), and when it expires (-1: never); or 0,
--   how many milliseconds may pass until a retry makes sense, and nothing.

local newest, channel, waiters, leases = unpack(cmsgpack.unpack(ARGV[1]))
local present = now()

local function wait(name, lock, waiter)
  local queue = lock[QUEUE]
  local place = place_of(queue, waiter) or #queue + 1
  queue[place] = {waiter, channel, present}
  save_lock(name, lock)
  local held_until = lock[ENDS] > present and lock[ENDS] or queue[1][SEEN] + SILENCE
  return {0, held_until - present, false}
end

local function try(session, name, waiter, milliseconds)
  local size = call('STRLEN', session)
  local expires_at = size > 0 and expiry(session) or -1
  local token, ends = math.max(micros, newest + 1), present + milliseconds
  local lock = {token, ends, waiter, {}, size >= LARGE and token or nil}
  -- The usual case: the session is free, and nobody waits.
  if call('SET', name, cmsgpack.pack(lock), 'PX', milliseconds, 'NX') then
    if size >= LARGE then
      make_copy(session, name, lock, token)
      if not lock[COPY] then save_lock(name, lock) end
    end
    return {token, lock[COPY] or 0, expires_at}
  end
  lock = load_lock(name)
  local queue = lock[QUEUE]
  -- The holder asks again if the reply was lost.
  if lock[ENDS] <= present or lock[HOLDER] ~= waiter then
    drop_silent(queue)
    if lock[ENDS] > present or (queue[1] and queue[1][WAITER] ~= waiter) then return wait(name, lock, waiter) end
    if queue[1] then table.remove(queue, 1) end
    lock[TOKEN] = math.max(token, lock[TOKEN] + 1)
    lock[HOLDER] = waiter
  end
  lock[ENDS] = ends
  if size >= LARGE then make_copy(session, name, lock) else lock[COPY] = nil end
  save_lock(name, lock)
  return {lock[TOKEN], lock[COPY] or 0, expires_at}
end

local replies = {}
for number, waiter in ipairs(waiters) do
  local reply = attempt(try, KEYS[2 * number - 1], KEYS[2 * number], waiter, leases[number])
  if reply.err then reply = {reply, false, false} end
  for part = 1, 3 do replies[3 * number - 3 + part] = reply[part] end
end
if refusal then return {err = refusal} end
return replies

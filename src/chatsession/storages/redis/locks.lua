-- The beginning of all scripts that use locks.
--
-- The lock of a session is one string beside it, in the same cluster slot: its token, when its lease ends, who holds
-- it, the queue of waiters, and the mark of the copy. It exists while the session is held or waited for.
--
-- The copy is of a large value, as the holder read or wrote it last. When the holder commits, what is stored is compared
-- with it, byte by byte: that notices every write of others, and takes a tenth of the time of a digest in Lua. Its mark
-- tells which of the holder's values it is.

local TOKEN, ENDS, HOLDER, QUEUE, COPY = 1, 2, 3, 4, 5
local WAITER, CHANNEL, SEEN = 1, 2, 3

local SILENCE = 2000  -- milliseconds after which a waiter that has not asked again is dropped
local GRACE = 60000   -- milliseconds for which a queue outlives the lease that it waits for
local LARGE = 2048    -- bytes of a value from which on a copy costs less than to pass the value through Lua

local micros

-- In milliseconds since 1970; also sets `micros`.
local function now()
  if not micros then
    local time = redis.call('TIME')
    micros = time[1] * 1000000 + time[2]
  end
  return math.floor(micros / 1000)
end

-- With these errors the server accepts no writes at all: nothing of this call was done, and all of it may be repeated.
local REFUSALS = ' READONLY NOREPLICAS MASTERDOWN CLUSTERDOWN MISCONF '
local refusal = false

local call = redis.call

-- An error of one session must not affect the others of the same call.
local function attempt(work, ...)
  local done, result = pcall(work, ...)
  if done then return result end
  local message = string.gsub(type(result) == 'table' and result.err or result, '^%-', '')  -- a string before Redis 7.0
  if string.find(REFUSALS, ' ' .. string.match(message, '^%S*') .. ' ', 1, true) then refusal = message end
  return {err = string.find(message, '^%u%u') and message or 'ERR ' .. message}
end

local function load_lock(name)
  local packed = call('GET', name)
  if packed then return cmsgpack.unpack(packed) end
  return {0, 0, '', {}}
end

local function left_of(lock)
  return math.max(lock[ENDS] - now(), 0)
end

local function save_lock(name, lock)
  local left = left_of(lock)
  call('SET', name, cmsgpack.pack(lock), 'PX', #lock[QUEUE] == 0 and left or left + GRACE)
end

-- Without a queue, the key of the lock lasts exactly as long as the lease.
local function holds(lock, token)
  if lock[TOKEN] ~= token or lock[ENDS] == 0 then return false end
  return #lock[QUEUE] == 0 or lock[ENDS] > now()
end

-- The name is derived from the lock's, and lies in its slot.
local function copy_of(name)
  return '!chatsession:copy:' .. string.sub(name, #'!chatsession:lock:' + 1)
end

-- Redis before 6.2 cannot copy, and one whose memory is full may not: then there is no mark, and digests are compared.
-- Each copy of what is stored has a mark of its own, because a call that was delayed may make one that nobody has read.
local function make_copy(session, name, lock, mark)
  local copy = copy_of(name)
  now()
  mark = mark or math.max(micros, (lock[COPY] or 0) + 1)
  lock[COPY] = redis.pcall('COPY', session, copy, 'REPLACE') == 1 and mark or nil
  if lock[COPY] then call('PEXPIRE', copy, left_of(lock) + GRACE) end
end

-- The comparison uses the copy up.
local function is_as_copied(session, name)
  local copy = copy_of(name)
  if call('STRLEN', session) ~= call('STRLEN', copy) then return false end
  call('BITOP', 'XOR', copy, copy, session)
  return call('BITPOS', copy, 1) == -1
end

local function drop_silent(queue)
  for place = #queue, 1, -1 do
    if queue[place][SEEN] + SILENCE <= now() then table.remove(queue, place) end
  end
end

local function place_of(queue, waiter)
  for place = 1, #queue do
    if queue[place][WAITER] == waiter then return place end
  end
end

-- If the user may not publish, waiters poll.
local function wake_first(queue)
  if queue[1] then redis.pcall('PUBLISH', queue[1][CHANNEL], queue[1][WAITER]) end
end

local function release(name, lock)
  drop_silent(lock[QUEUE])
  if lock[COPY] then
    call('UNLINK', copy_of(name))
    lock[COPY] = nil
  end
  if #lock[QUEUE] == 0 then
    call('DEL', name)
    return
  end
  lock[ENDS], lock[HOLDER] = 0, ''
  -- A server whose memory is full can still delete; the waiters then queue again.
  if not pcall(save_lock, name, lock) then call('DEL', name) end
  wake_first(lock[QUEUE])
end

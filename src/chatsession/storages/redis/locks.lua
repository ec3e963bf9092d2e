-- The beginning of all scripts that use locks.
--
-- The lock of a session is one string beside it, in the same cluster slot: its token, when its lease ends, who holds
-- it, and the queue of waiters. It exists while the session is held or waited for.

local TOKEN, ENDS, HOLDER, QUEUE = 1, 2, 3, 4
local WAITER, CHANNEL, SEEN = 1, 2, 3

local SILENCE = 2000  -- milliseconds after which a waiter that has not asked again is dropped
local GRACE = 60000   -- milliseconds for which a queue outlives the lease that it waits for

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

local function call(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    local message = string.gsub(reply.err, '^%-', '')
    if string.find(REFUSALS, ' ' .. string.match(message, '^%S*') .. ' ', 1, true) then refusal = message end
    error(message, 0)
  end
  return reply
end

-- An error of one session must not affect the others of the same call.
local function attempt(work, ...)
  local done, result = pcall(work, ...)
  if done then return result end
  return {err = string.find(result, '^%u%u') and result or 'ERR ' .. result}
end

local function load_lock(name)
  local packed = call('GET', name)
  if packed then return cmsgpack.unpack(packed) end
  return {0, 0, '', {}}
end

local function save_lock(name, lock)
  local left = math.max(lock[ENDS] - now(), 0)
  call('SET', name, cmsgpack.pack(lock), 'PX', #lock[QUEUE] == 0 and left or left + GRACE)
end

-- Without a queue, the key of the lock lasts exactly as long as the lease.
local function holds(lock, token)
  if lock[TOKEN] ~= token or lock[ENDS] == 0 then return false end
  return #lock[QUEUE] == 0 or lock[ENDS] > now()
end

local function drop_the_dead(queue)
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
  drop_the_dead(lock[QUEUE])
  if #lock[QUEUE] == 0 then
    call('DEL', name)
    return
  end
  lock[ENDS], lock[HOLDER] = 0, ''
  -- A server whose memory is full can still delete; the waiters then queue again.
  if not pcall(save_lock, name, lock) then call('DEL', name) end
  wake_first(lock[QUEUE])
end

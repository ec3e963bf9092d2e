-- Remove requests from their queues, and release the locks that were granted to them.
--
-- KEYS: the locks. ARGV: the waiter of each request.
-- Returns for each: 1.

local function abandon(name, waiter)
  local lock = load_lock(name)
  -- Granted, but the reply was lost or its waiter was cancelled.
  if lock[HOLDER] == waiter and lock[ENDS] > now() then
    release(name, lock)
    return 1
  end
  local place = place_of(lock[QUEUE], waiter)
  if not place then return 1 end
  table.remove(lock[QUEUE], place)
  if lock[ENDS] > now() then
    save_lock(name, lock)
  else
    release(name, lock)
  end
  return 1
end

local replies = {}
for number = 1, #KEYS do replies[number] = attempt(abandon, KEYS[number], ARGV[number]) end
if refusal then return {err = refusal} end
return replies

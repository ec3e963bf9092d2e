"""Lock, renew and abandon, as changes of the state of a key."""

from __future__ import annotations

from msgspec.structs import replace

from chatsession.storages._shared.waiters import Waiting, wake_token
from chatsession.storages.base import Lease, Locked, LockRequest
from chatsession.storages.nats._operations import Decision, Write, carried, record_of, unlocked
from chatsession.storages.nats._records import HEARTBEAT, QueuedWaiter, Stored


def lock(request: LockRequest, inbox: str, stored: Stored, now: float) -> Decision[Locked | Waiting]:
    """Lock the key, or put the request into its queue."""
    value, entry = carried(stored, now)
    queue = entry.queue
    place = next((place for place, queued in enumerate(queue) if queued.waiter == request.waiter), len(queue))
    if place == 0 and not entry.is_locked(now):
        entry = replace(
            entry,
            locked_at=0,
            lease_seconds=request.seconds,
            until=now + request.seconds,
            holder=wake_token(request.waiter),
            queue=queue[1:],
        )
        record = record_of(stored, now)
        return Write(value, entry, lambda stored: Locked(Lease(request.key, stored.token or 0), record))
    waiting = Waiting(entry.until)
    if place < len(queue) and now - queue[place].seen < HEARTBEAT:
        return waiting
    queue = (*queue[:place], QueuedWaiter(request.waiter, inbox, now), *queue[place + 1 :])
    return Write(value, replace(entry, queue=queue), lambda _: waiting)


def renew(lease: Lease, seconds: float, stored: Stored, now: float) -> Decision[bool]:
    """Extend a lease that is held."""
    if stored.token != lease.token:
        return False
    value, entry = carried(stored, now)
    return Write(value, replace(entry, lease_seconds=seconds, until=now + seconds), lambda _: True)


def abandon(waiter: str, stored: Stored, now: float) -> Decision[None]:
    """Remove a waiter from the queue, or release the lock that it was granted, and wake the next one."""
    held = stored.entry.is_locked(now) and stored.entry.holder == wake_token(waiter)
    if not held and all(queued.waiter != waiter for queued in stored.entry.queue):
        return None
    value, entry = carried(stored, now)
    if held:
        entry = unlocked(entry)
    queue = tuple(queued for queued in entry.queue if queued.waiter != waiter)
    wake = queue[0] if queue and not entry.is_locked(now) else None
    return Write(value, replace(entry, queue=queue), lambda _: None, wake)

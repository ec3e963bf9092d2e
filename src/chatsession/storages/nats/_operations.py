"""What a call makes of a key's state: nothing but an answer, or a new state and the answer once that is stored."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Generic, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from chatsession.errors import SessionTooLargeError
from chatsession.storages._shared.waiters import wake_token
from chatsession.storages.base import (
    CONFLICT,
    DELETE,
    LEASE_LOST,
    PUT,
    TOUCH,
    Change,
    Committed,
    Lease,
    Locked,
    LockRequest,
    Outcome,
    Record,
)
from chatsession.storages.nats._records import HEARTBEAT, Entry, QueuedWaiter, Stored

Answer = TypeVar("Answer")


class Waiting(msgspec.Struct, frozen=True):
    """Not locked; it is worth another try when woken, or at this time, when the holder's lease ends."""

    until: float


class Write(msgspec.Struct, Generic[Answer], frozen=True):
    """A new state to be stored."""

    value: bytes
    entry: Entry
    answer: Callable[[Stored], Answer]
    """What to answer when it is stored."""
    wake: QueuedWaiter | None = None
    """The waiter whose turn it is then."""


Decision: TypeAlias = Write[Answer] | Answer


def record_of(stored: Stored, now: float) -> Record | None:
    """The session as the core sees it; `None`: there is none, or it expired."""
    if not stored.entry.is_live(now):
        return None
    return Record(stored.value, stored.version, stored.entry.expires)


def lock(request: LockRequest, inbox: str, stored: Stored, now: float) -> Decision[Locked | Waiting]:
    """Lock, or queue up."""
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
    """Make the lease longer, if it is held."""
    if stored.token != lease.token:
        return False
    value, entry = carried(stored, now)
    return Write(value, replace(entry, lease_seconds=seconds, until=now + seconds), lambda _: True)


def abandon(waiters: Collection[str], stored: Stored, now: float) -> Decision[None]:
    """Take waiters out of the queue and release the lock that one of them was granted; the next one is woken."""
    held = stored.entry.is_locked(now) and stored.entry.holder in map(wake_token, waiters)
    if not held and all(queued.waiter not in waiters for queued in stored.entry.queue):
        return None
    value, entry = carried(stored, now)
    if held:
        entry = _unlocked(entry)
    queue = tuple(queued for queued in entry.queue if queued.waiter not in waiters)
    wake = queue[0] if queue and not entry.is_locked(now) else None
    return Write(value, replace(entry, queue=queue), lambda _: None, wake)


def commit(change: Change, largest: int, stored: Stored, now: float) -> Decision[Outcome]:
    """Check lease and version, change the session, unlock."""
    if change.lease is not None and change.lease.token != stored.token:
        return LEASE_LOST
    before = carried(stored, now)
    value, entry, answer = _changed(change, largest, *before, now)
    wake = None
    if change.lease is not None and change.unlock:
        entry = _unlocked(entry)
        wake = entry.queue[0] if entry.queue else None
    elif (value, entry) == before and change.action is not PUT:
        return answer(stored)
    if entry.is_nothing() and stored.entry.is_nothing():
        return answer(stored)
    return Write(value, entry, answer, wake)


def _changed(
    change: Change, largest: int, value: bytes, entry: Entry, now: float
) -> tuple[bytes, Entry, Callable[[Stored], Outcome]]:
    version = None if entry.missing else entry.stored_at
    if not change.accepts(version, now):
        return value, entry, lambda _: CONFLICT
    expires = None if change.ttl is None else now + change.ttl
    if change.action is PUT:
        if len(change.value) > largest:
            return value, entry, lambda _: _too_large(change, largest)
        return change.value, replace(entry, missing=False, expires=expires, stored_at=0), _committed
    if change.action is DELETE:
        return b"", replace(entry, missing=True, expires=None, stored_at=0), lambda _: Committed(None)
    if change.action is TOUCH and version is not None:
        entry = replace(entry, expires=expires)
    return value, entry, lambda _: Committed(version)


def carried(stored: Stored, now: float) -> tuple[bytes, Entry]:
    """The state as a new message has it if nothing changes: revisions that were the old message's own are named."""
    entry = stored.entry
    queue = entry.awaited_by(now)
    if entry.is_live(now):
        return stored.value, replace(entry, stored_at=stored.version, locked_at=stored.token or 0, queue=queue)
    return b"", replace(entry, missing=True, expires=None, stored_at=0, locked_at=stored.token or 0, queue=queue)


def _unlocked(entry: Entry) -> Entry:
    return replace(entry, locked_at=0, lease_seconds=0.0, until=0.0, holder="")


def _committed(stored: Stored) -> Committed:
    return Committed(stored.version)


def _too_large(change: Change, largest: int) -> SessionTooLargeError:
    return SessionTooLargeError(
        f"{len(change.value):,} bytes are more than the NATS server takes ({largest:,}); nothing was written; "
        "make it smaller, or raise the server's max_payload",
        key=change.key,
    )

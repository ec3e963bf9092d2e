"""Decisions about a key by its state: an answer, or a new state with the answer for when it is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from chatsession.storages.base import (
    CONFLICT,
    DELETE,
    LEASE_LOST,
    PUT,
    TOUCH,
    Change,
    Committed,
    Outcome,
    Record,
)
from chatsession.storages.nats._errors import too_large
from chatsession.storages.nats._records import Entry, QueuedWaiter, Stored

Answer = TypeVar("Answer")


class Write(msgspec.Struct, Generic[Answer], frozen=True):
    """A new state to be stored."""

    value: bytes
    entry: Entry
    answer: Callable[[Stored], Answer]
    """Gives the answer when the state is stored."""
    wake: QueuedWaiter | None = None
    """The waiter whose turn is next."""


Decision: TypeAlias = Write[Answer] | Answer


def record_of(stored: Stored, now: float) -> Record | None:
    """The record of a session. `None`: there is none, or it has expired."""
    if not stored.entry.is_live(now):
        return None
    return Record(stored.value, stored.version, stored.entry.expires)


def commit(change: Change, largest: int, stored: Stored, now: float) -> Decision[Outcome]:
    """Check the lease and the version, change the session, and unlock."""
    if change.lease is not None and change.lease.token != stored.token:
        return LEASE_LOST
    before = carried(stored, now)
    value, entry, answer = _changed(change, largest, *before, now)
    wake = None
    if change.lease is not None and change.unlock:
        entry = unlocked(entry)
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
            return value, entry, lambda _: too_large(change, largest)
        return change.value, replace(entry, missing=False, expires=expires, stored_at=0), _committed
    if change.action is DELETE:
        return b"", replace(entry, missing=True, expires=None, stored_at=0), lambda _: Committed(None)
    if change.action is TOUCH and version is not None:
        entry = replace(entry, expires=expires)
    return value, entry, lambda _: Committed(version)


def carried(stored: Stored, now: float) -> tuple[bytes, Entry]:
    """The unchanged state for a new message. It names the version and the token that followed from the old revision."""
    entry = stored.entry
    queue = entry.awaited_by(now)
    if entry.is_live(now):
        return stored.value, replace(entry, stored_at=stored.version, locked_at=stored.token or 0, queue=queue)
    return b"", replace(entry, missing=True, expires=None, stored_at=0, locked_at=stored.token or 0, queue=queue)


def unlocked(entry: Entry) -> Entry:
    """The state without its lock."""
    return replace(entry, locked_at=0, lease_seconds=0.0, until=0.0, holder="")


def _committed(stored: Stored) -> Committed:
    return Committed(stored.version)

"""The calls of a storage, for one key at a time."""

from __future__ import annotations

import asyncio
from itertools import count

import msgspec
import pytest

from chatsession.errors import SessionError
from chatsession.storages import (
    Action,
    Change,
    Committed,
    Expect,
    Lease,
    Locked,
    LockRequest,
    Outcome,
    Record,
    Storage,
    Version,
)

_waiters = count(1)


async def read(storage: Storage, key: str) -> Record | None:
    (found,) = await storage.read_many([key])
    assert not isinstance(found, SessionError), found
    return found


async def value_of(storage: Storage, key: str) -> bytes | None:
    record = await read(storage, key)
    return None if record is None else record.value


async def commit(storage: Storage, change: Change) -> Outcome:
    (outcome,) = await storage.commit_many([change])
    return outcome


async def put(
    storage: Storage,
    key: str,
    value: bytes,
    *,
    expect: Version | Expect | None = Expect.ANYTHING,
    ttl: float | None = None,
) -> Version:
    """Store a value, and return its version. Fails if that is refused."""
    outcome = await commit(storage, Change(key, Action.PUT, value, expect, ttl))
    assert isinstance(outcome, Committed), outcome
    assert outcome.version is not None
    return outcome.version


async def delete(storage: Storage, key: str) -> None:
    assert await commit(storage, Change(key, Action.DELETE)) == Committed(None)


def request(key: str, seconds: float = 600.0) -> LockRequest:
    """A request by a new waiter."""
    return LockRequest(key, f"waiter-{next(_waiters)}", seconds)


async def try_lock(storage: Storage, waiter: LockRequest) -> Locked | None:
    (found,) = await storage.lock_many([waiter])
    assert not isinstance(found, SessionError), found
    return found


async def lock(storage: Storage, key: str, seconds: float = 600.0) -> Locked:
    """Lock a key. Fails if it is not free."""
    locked = await try_lock(storage, request(key, seconds))
    assert locked is not None, f"{key!r} is not free"
    return locked


async def is_busy(storage: Storage, key: str) -> bool:
    """Whether the key is locked, or others wait for it. If not, it is locked now."""
    waiter = request(key)
    if await try_lock(storage, waiter) is not None:
        return False
    await storage.abandon_many([waiter])
    return True


async def wait_for_lock(storage: Storage, waiter: LockRequest) -> Locked:
    """Lock a key as the core does: wait, and try again. Fails after 60 s."""
    async with asyncio.timeout(60):
        for attempt in count():
            if (locked := await try_lock(storage, waiter)) is not None:
                return locked
            await storage.wait_unlocked(waiter, attempt)
    pytest.fail("unreachable")


async def unlock(storage: Storage, lease: Lease) -> Outcome:
    return await commit(storage, Change(lease.key, Action.KEEP, lease=lease, unlock=True))


async def renew(storage: Storage, lease: Lease, seconds: float) -> bool:
    (held,) = await storage.renew_many([lease], seconds)
    return held


async def scan_all(storage: Storage, prefix: str = "", limit: int = 100) -> list[tuple[str, Record]]:
    entries: list[tuple[str, Record]] = []
    cursor: str | None = None
    while True:
        page = await storage.scan(prefix, cursor, limit)
        entries += page.entries
        cursor = page.cursor
        if cursor is None:
            return entries


async def scan_all_keys(storage: Storage, prefix: str = "", limit: int = 100) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        keys, cursor = await storage.scan_keys(prefix, cursor, limit)
        found += keys
        if cursor is None:
            return found


def varied(change: Change, **fields: object) -> Change:
    """The same change with some fields changed."""
    return msgspec.structs.replace(change, **fields)


def number(value: int) -> bytes:
    """A value that is JSON, so that every storage returns it byte for byte."""
    return str(value).encode()

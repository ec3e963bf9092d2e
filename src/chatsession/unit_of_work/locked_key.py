"""A key that is locked outside of any session, and what is stored under it, as bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

from msgspec import UNSET, UnsetType

from chatsession.coordination.coordinator import Acquired, Coordinator
from chatsession.errors import SessionConflictError
from chatsession.storages import Action, Change, Record
from chatsession.unit_of_work.runtime import Runtime


class LockedKey:
    """One key while it is locked; `record` is what is stored now."""

    def __init__(self, runtime: Runtime[Any], key: str, acquired: Acquired) -> None:
        self.key = key
        self.record: Record | None = acquired.record
        self._coordinator = runtime.coordinator
        self._lease = acquired.lease

    async def put(self, value: bytes, ttl: float | None) -> None:
        """Store bytes, if what is stored has not changed meanwhile. Raises `SessionConflictError`."""
        version = None if self.record is None else self.record.version
        committed = await self._coordinator.commit(Change(self.key, Action.PUT, value, version, ttl, self._lease))
        expires_at = None if ttl is None else self._coordinator.storage.now() + ttl
        self.record = Record(value, committed.version, expires_at)

    async def delete(self) -> None:
        """Delete what is stored, if it has not changed meanwhile. Raises `SessionConflictError`."""
        if self.record is not None:
            change = Change(self.key, Action.DELETE, expect=self.record.version, lease=self._lease)
            await self._coordinator.commit(change)
            self.record = None


@contextlib.asynccontextmanager
async def locked_key(runtime: Runtime[Any], key: str) -> AsyncGenerator[LockedKey, None]:
    """Lock a key, as an open session does."""
    await runtime.enter_loop()
    runtime.active += 1
    coordinator = runtime.coordinator
    try:
        acquired = await acquire(coordinator, key, runtime.lock_timeout, runtime.lock_lease)
        locked = LockedKey(runtime, key, acquired)
        try:
            yield locked
        finally:
            await coordinator.commit_and_release(key, acquired, locked.record, None)
    finally:
        runtime.leave()


async def acquire(coordinator: Coordinator, key: str, timeout: float | None, lease_seconds: float) -> Acquired:
    """Acquire a key, at once if that is possible; as `Coordinator.acquire`."""
    return coordinator.try_acquire(key) or await coordinator.acquire(key, timeout, lease_seconds)


async def compare_and_set(
    coordinator: Coordinator,
    key: str,
    value: bytes | None,
    *,
    seen: Callable[[Record | None], bool],
    ttl: float | None = None,
    expires_at: float | UnsetType | None = UNSET,
    wait: float | None,
    lease: float = 20.0,
    committing: contextlib.AbstractContextManager[object] | None = None,
) -> Record | None:
    """Write a session, or delete it (`None`), after the update that is running for it, if it is what was seen.

    Args:
        coordinator: of the storage.
        key: the session, with its prefix.
        value: what to store.
        seen: tells whether what is stored now is what the change is meant for.
        ttl: seconds to live.
        expires_at: Unix time at which it expires, instead; `None`: never. Without either, the expiry stays as it was.
        wait: seconds to wait for an update that is running; `None`: for ever.
        lease: seconds for which the key stays locked should this process die.
        committing: is entered while the storage makes the change.

    Returns:
        What was stored before.

    Raises:
        SessionConflictError: what is stored is not what was seen; nothing was written.
    """
    acquired = await acquire(coordinator, key, wait, lease)
    before = acquired.record
    if not seen(before):
        await coordinator.commit_and_release(key, acquired, before, None)
        raise SessionConflictError("it was changed meanwhile; nothing was written", key=key)
    if expires_at is UNSET:
        expires_at = None if before is None else before.expires_at
    if ttl is None and expires_at is not None:
        ttl = max(expires_at - coordinator.storage.now(), 0.001)
    action = Action.DELETE if value is None else Action.PUT
    change = Change(key, action, value or b"", before and before.version, ttl, acquired.lease)
    with committing or contextlib.nullcontext():
        # Begun, it ends: a Ctrl-C must not leave the key locked until its lease runs out.
        await asyncio.shield(coordinator.commit_and_release(key, acquired, before, change))
    return before

"""A key held outside of any session: its turn, its lock, and what is stored under it, as bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

from chatsession.coordination.coordinator import Acquired, Coordinator
from chatsession.errors import SessionConflictError
from chatsession.storages import Action, Change, Record
from chatsession.unit_of_work.runtime import Runtime


class Held:
    """One key while it is held; `record` is what is stored now."""

    def __init__(self, plan: Runtime[Any], key: str, grant: Acquired) -> None:
        self.key = key
        self.record: Record | None = grant.record
        self._coordinator = plan.coordinator
        self._lease = grant.lease

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
async def holding(plan: Runtime[Any], key: str) -> AsyncGenerator[Held, None]:
    """Hold a key, as an open session does."""
    if not plan.running:
        await plan.admit(key)
    plan.active += 1
    try:
        grant = await plan.coordinator.enter(key, plan.lock_timeout, plan.lock_lease)
        held = Held(plan, key, grant)
        try:
            yield held
        finally:
            await plan.coordinator.leave(key, grant, held.record)
    finally:
        plan.leave()


async def change_stored(
    coordinator: Coordinator,
    key: str,
    value: bytes | None,
    *,
    seen: Callable[[Record | None], bool],
    ttl: float | None = None,
    expires_at: float | None = None,
    wait: float,
    lease: float = 20.0,
    committing: contextlib.AbstractContextManager[object] | None = None,
) -> Record | None:
    """Write a session, or delete it (`None`), after the update that is running for it, if it is what was seen.

    Args:
        coordinator: to the storage.
        key: the session, with its prefix.
        value: what to store.
        seen: tells whether what is stored now is what the change is meant for.
        ttl: seconds to live.
        expires_at: when it ends, instead; without either, it ends when what was stored before would have.
        wait: seconds to wait for an update that is running.
        lease: seconds for which the key stays locked should this process die.
        committing: is entered while the storage makes the change.

    Returns:
        What was stored before.

    Raises:
        SessionConflictError: what is stored is not what was seen; nothing was written.
    """
    grant = await coordinator.enter(key, wait, lease)
    before = grant.record
    if not seen(before):
        await coordinator.leave(key, grant, before)
        raise SessionConflictError("it was changed meanwhile; nothing was written", key=key)
    if expires_at is None and before is not None:
        expires_at = before.expires_at
    if ttl is None and expires_at is not None:
        ttl = max(expires_at - coordinator.storage.now(), 0.001)
    action = Action.DELETE if value is None else Action.PUT
    with committing or contextlib.nullcontext():
        # Begun, it ends: a Ctrl-C must not leave the key locked until its lease runs out.
        await asyncio.shield(
            coordinator.leave(key, grant, before, action, value or b"", before and before.version, ttl)
        )
    return before

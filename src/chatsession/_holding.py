"""A key held outside of any session: its turn, its lock, and what is stored under it, as bytes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from chatsession._gateway import Grant
from chatsession._plan import Plan
from chatsession.storages import Action, Change, Record


class Held:
    """One key while it is held; `record` is what is stored now."""

    def __init__(self, plan: Plan[Any], key: str, grant: Grant) -> None:
        self.key = key
        self.record: Record | None = grant.record
        self._gateway = plan.gateway
        self._lease = grant.lease

    async def put(self, value: bytes, ttl: float | None) -> None:
        """Store bytes, if what is stored has not changed meanwhile. Raises `SessionConflictError`."""
        version = None if self.record is None else self.record.version
        committed = await self._gateway.commit(Change(self.key, Action.PUT, value, version, ttl, self._lease))
        expires_at = None if ttl is None else self._gateway.storage.now() + ttl
        self.record = Record(value, committed.version, expires_at)

    async def delete(self) -> None:
        """Delete what is stored, if it has not changed meanwhile. Raises `SessionConflictError`."""
        if self.record is not None:
            change = Change(self.key, Action.DELETE, expect=self.record.version, lease=self._lease)
            await self._gateway.commit(change)
            self.record = None


@contextlib.asynccontextmanager
async def holding(plan: Plan[Any], key: str) -> AsyncGenerator[Held, None]:
    """Hold a key, as an open session does."""
    if not plan.running:
        await plan.admit(key)
    plan.active += 1
    try:
        grant = await plan.gateway.enter(key, plan.lock_timeout, plan.lock_lease)
        held = Held(plan, key, grant)
        try:
            yield held
        finally:
            await plan.gateway.leave(key, grant, held.record)
    finally:
        plan.leave()

"""Changing one session as the bot itself would: under its lock, and only if it is what it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

from chatsession._gateway import Gateway, gateway_to
from chatsession.errors import SessionConflictError, SessionError
from chatsession.storages import Action, Record, Storage

LOCK_TIMEOUT = 60.0
_LEASE = 30.0

Unseen = Literal["whatever"]


@asynccontextmanager
async def gateway(storage: Storage) -> AsyncGenerator[Gateway]:
    """The traffic with a storage, with locks; all that is held is given back at the end."""
    made, member = gateway_to(storage), object()
    await made.join(member)
    try:
        yield made
    finally:
        await made.part(member)


async def read(storage: Storage, key: str) -> Record | None:
    """What is stored, without waiting for anybody."""
    (found,) = await storage.read_many([key])
    if isinstance(found, SessionError):
        raise found
    return found


async def change(
    through: Gateway,
    key: str,
    value: bytes | None,
    *,
    seen: Record | Unseen | None = "whatever",
    ttl: float | None = None,
    wait: float = LOCK_TIMEOUT,
) -> Record | None:
    """Write a session, or delete it (`None`), after the update that is running for it.

    Args:
        through: the gateway.
        key: the session.
        value: what to store.
        seen: what must still be stored; `None`: nothing.
        ttl: seconds to live; `None`: until what was stored before would have ended.
        wait: seconds to wait for an update that is running.

    Returns:
        What was stored before.

    Raises:
        SessionConflictError: what is stored is not what was seen; nothing was written.
    """
    grant = await through.enter(key, wait, _LEASE)
    before = grant.record
    action = Action.DELETE if value is None else Action.PUT
    if seen != "whatever" and (seen and seen.version) != (before and before.version):
        await through.leave(key, grant, before)
        raise SessionConflictError("it was changed meanwhile; nothing was written", key=key)
    if ttl is None and before is not None and before.expires_at is not None:
        ttl = max(before.expires_at - through.storage.now(), 0.001)
    # Begun, it ends: a Ctrl-C must not leave the key locked until its lease runs out.
    await asyncio.shield(through.leave(key, grant, before, action, value or b"", before and before.version, ttl))
    return before

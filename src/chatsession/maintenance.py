"""Changing one session as the bot itself would: under its lock, and only if it is what it was."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

from chatsession.coordination.coordinator import Coordinator, coordinator_of
from chatsession.coordination.lifecycle import Visitor
from chatsession.errors import SessionError
from chatsession.storages import Record, Storage
from chatsession.unit_of_work.locked_key import compare_and_set

LOCK_TIMEOUT = 60.0

Unseen = Literal["whatever"]


@asynccontextmanager
async def coordinator(storage: Storage) -> AsyncGenerator[Coordinator]:
    """The traffic with a storage, with locks; all that is held is given back at the end."""
    made, visitor = coordinator_of(storage), Visitor()
    await made.lifecycle.join(visitor)
    try:
        yield made
    finally:
        await made.lifecycle.part(visitor)


async def read(storage: Storage, key: str) -> Record | None:
    """What is stored, without waiting for anybody."""
    (found,) = await storage.read_many([key])
    if isinstance(found, SessionError):
        raise found
    return found


async def change(
    through: Coordinator,
    key: str,
    value: bytes | None,
    *,
    seen: Record | Unseen | None = "whatever",
    ttl: float | None = None,
    wait: float = LOCK_TIMEOUT,
) -> Record | None:
    """As `compare_and_set`, by the record that was seen.

    Args:
        through: the coordinator.
        key: the session.
        value: what to store.
        seen: what must still be stored; `None`: nothing.
        ttl: seconds to live; `None`: until what was stored before would have ended.
        wait: seconds to wait for an update that is running.
    """

    def is_seen(record: Record | None) -> bool:
        return seen == "whatever" or (seen and seen.version) == (record and record.version)

    return await compare_and_set(through, key, value, seen=is_seen, ttl=ttl, wait=wait)

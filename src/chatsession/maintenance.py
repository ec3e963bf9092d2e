"""How the command line and the inspector reach stored sessions, as bytes, beside bots that are working."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from typing import Literal, Self

from chatsession.coordination.coordinator import coordinator_of
from chatsession.coordination.lifecycle import Visitor
from chatsession.errors import SessionError
from chatsession.storages import Record, Storage
from chatsession.unit_of_work.locked_key import compare_and_set
from chatsession.unit_of_work.prefixes import PREFIXES
from chatsession.unit_of_work.runtime import MOVED, QUARANTINE

LOCK_TIMEOUT = 60.0

_LARGEST_PAGE = 500
_SMALLEST_PAGE = 4
_PAGE_BYTES = 4_000_000
"""About how much one page of an enumeration may hold in memory."""


class Maintenance:
    """Changes stored bytes as a bot would: under the key's lock. Used by `async with`.

    Args:
        storage: opened at the beginning unless it is open, and closed at the end if it was opened here.
    """

    def __init__(self, storage: Storage) -> None:
        self._coordinator = coordinator_of(storage)
        self._visitor = Visitor()

    async def __aenter__(self) -> Self:
        await self._coordinator.lifecycle.join(self._visitor)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._coordinator.lifecycle.part(self._visitor)

    async def change(
        self,
        key: str,
        value: bytes | None,
        *,
        seen: Callable[[Record | None], bool] | None = None,
        ttl: float | None = None,
        expires_at: float | None = None,
        wait: float = LOCK_TIMEOUT,
        committing: AbstractContextManager[object] | None = None,
    ) -> Record | None:
        """Store bytes under a key, or delete what is stored, after the update that is running for it.

        Args:
            key: the session key, with its prefix.
            value: what to store; `None` deletes.
            seen: tells whether what is stored is what the change is meant for (see `unchanged`); `None`: anything is.
            ttl: seconds to live.
            expires_at: Unix time at which it ends, instead. Without either, the expiry stays as it was.
            wait: seconds to wait for a running update.
            committing: is entered while the storage makes the change.

        Returns:
            What was stored before.

        Raises:
            SessionConflictError: `seen` refused what is stored; nothing was written.
            SessionLockTimeoutError: the running update took longer than `wait`.
        """
        return await compare_and_set(
            self._coordinator,
            key,
            value,
            seen=seen or _anything,
            ttl=ttl,
            expires_at=expires_at,
            wait=wait,
            committing=committing,
        )


def unchanged(seen: Record | None) -> Callable[[Record | None], bool]:
    """A condition for `Maintenance.change`: the same version is stored as was seen, or still nothing."""
    version = None if seen is None else seen.version
    return lambda record: (None if record is None else record.version) == version


async def read(storage: Storage, key: str) -> Record | None:
    """What is stored under a key now; waits for no update."""
    (found,) = await storage.read_many([key])
    if isinstance(found, SessionError):
        raise found
    return found


async def pages(
    storage: Storage, prefix: str, cursor: str | None = None, total: int = 0
) -> AsyncGenerator[tuple[list[tuple[str, Record]], str | None]]:
    """All sessions in pages, smaller ones where sessions are large, each with the cursor of the next.

    What was set aside is included (see `set_aside`). The prefixes that managers write down are not.

    Args:
        storage: it is only read.
        prefix: of the keys.
        cursor: where to begin.
        total: end after about so many, and not before, if there are; 0: never.
    """
    limit = _SMALLEST_PAGE
    seen = 0
    while True:
        page = await storage.scan(prefix, cursor, min(limit, total - seen) if total else limit)
        cursor = page.cursor
        yield [(key, record) for key, record in page.entries if not key.startswith(PREFIXES)], cursor
        seen += len(page.entries)
        if cursor is None or (total and seen >= total):
            return
        if page.entries:
            average = sum(len(record.value) for _, record in page.entries) / len(page.entries)
            limit = max(_SMALLEST_PAGE, min(_LARGEST_PAGE, limit * 2, int(_PAGE_BYTES / (average + 1))))


def set_aside(key: str) -> Literal["undecodable", "moved"] | None:
    """Why the data under a key was set aside: it did not decode, or a chat moved onto it; `None`: it was not."""
    if key.startswith(QUARANTINE):
        return "undecodable"
    return "moved" if key.startswith(MOVED) else None


def _anything(_: Record | None) -> bool:
    return True

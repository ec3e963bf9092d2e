"""How the command line and the inspector reach stored sessions, as bytes, while bots use them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Self

from msgspec import UNSET, UnsetType

from chatsession.coordination.coordinator import coordinator_of
from chatsession.coordination.lifecycle import Visitor
from chatsession.errors import SessionError
from chatsession.storages import Action, Change, Committed, Lease, Record, Storage
from chatsession.storages.inspection import HeldLock
from chatsession.unit_of_work.locked_key import compare_and_set
from chatsession.unit_of_work.prefixes import PREFIXES, is_foreign, longer_prefixes
from chatsession.unit_of_work.runtime import MOVED, QUARANTINE, RESERVED, SET_ASIDE

LOCK_TIMEOUT = 60.0

_LARGEST_PAGE = 500
_SMALLEST_PAGE = 4
_PAGE_BYTES = 4_000_000
"""About how much one page of an enumeration may hold in memory."""
_SET_ASIDE = {
    QUARANTINE: "it did not decode, and was set aside; mend it and set it, or rm it",
    MOVED: "it was in the way when a chat moved, and was set aside; rm it",
}


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
        expires_at: float | UnsetType | None = UNSET,
        wait: float = LOCK_TIMEOUT,
        committing: AbstractContextManager[object] | None = None,
    ) -> Record | None:
        """Store bytes under a key, or delete what is stored, after the update that is running for it.

        Args:
            key: the session key, with its prefix.
            value: what to store; `None` deletes.
            seen: tells whether what is stored is what the change is meant for (see `unchanged`); `None`: anything is.
            ttl: seconds to live.
            expires_at: Unix time at which it expires, instead; `None`: never. Without either, the expiry stays.
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


async def break_lock(storage: Storage, lock: HeldLock) -> bool:
    """Take a lock from its holder, whose update then fails; returns whether it still was the same lock."""
    change = Change(lock.key, Action.KEEP, lease=Lease(lock.key, lock.token), unlock=True)
    (outcome,) = await storage.commit_many([change])
    if isinstance(outcome, SessionError):
        raise outcome
    return isinstance(outcome, Committed)


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


@dataclass(frozen=True)
class Scope:
    """The keys that an enumeration covers. Reserved keys are covered only if `prefix` names them."""

    prefix: str = ""
    others: tuple[str, ...] = ()
    """Longer prefixes, of other managers."""

    def covers(self, key: str) -> bool:
        """Whether a key belongs to it."""
        if key.startswith(RESERVED) and not self.prefix.startswith(tuple(_SET_ASIDE)):
            return False
        return key.startswith(self.prefix) and not key.startswith(PREFIXES) and not is_foreign(key, self.others)


def is_mark(key: str) -> bool:
    """Whether this is not the key of a session, but the place where a manager writes its prefix down."""
    return key.startswith(PREFIXES)


async def scope_of(storage: Storage, prefix: str | None) -> Scope:
    """The sessions of the manager with this prefix, less those of managers with a longer one; `None`: all sessions."""
    return Scope() if prefix is None else Scope(prefix, await longer_prefixes(storage, prefix))


async def pages(
    storage: Storage,
    scope: Scope,
    cursor: str | None = None,
    total: int = 0,
    wanted: Callable[[str, Record], bool] | None = None,
) -> AsyncGenerator[tuple[list[tuple[str, Record]], str | None]]:
    """Stored sessions in pages, smaller ones where sessions are large, each with the cursor of the next.

    Args:
        storage: it is only read.
        scope: which sessions.
        cursor: where to begin.
        total: end after so many sessions; 0: never.
        wanted: gives a subset of the sessions; `None`: all of them.
    """
    limit = _SMALLEST_PAGE
    seen = 0
    sparse = False
    while True:
        left = total - seen if total else limit
        page = await storage.scan(scope.prefix, cursor, limit if sparse else min(limit, left))
        entries = [entry for entry in page.entries if scope.covers(entry[0]) and (wanted is None or wanted(*entry))]
        if sparse and total and len(entries) > left:
            sparse = False
            continue
        sparse = len(entries) < len(page.entries) / 2
        cursor = page.cursor
        yield entries, cursor
        seen += len(entries)
        if cursor is None or (total and seen >= total):
            return
        if page.entries:
            average = sum(len(record.value) for _, record in page.entries) / len(page.entries)
            limit = max(_SMALLEST_PAGE, min(_LARGEST_PAGE, limit * 2, int(_PAGE_BYTES / (average + 1))))


async def key_pages(
    storage: Storage, scope: Scope, cursor: str | None = None, limit: int = _LARGEST_PAGE
) -> AsyncGenerator[tuple[list[str], str | None]]:
    """The keys of stored sessions in pages of at most `limit`; otherwise as `pages`."""
    while True:
        keys, cursor = await storage.scan_keys(scope.prefix, cursor, limit)
        yield [key for key in keys if scope.covers(key)], cursor
        if cursor is None:
            return


async def count(storage: Storage, scope: Scope) -> int:
    """How many sessions there are."""
    return sum([len(keys) async for keys, _ in key_pages(storage, scope)])


async def set_aside(storage: Storage, scope: Scope) -> AsyncGenerator[tuple[str, str]]:
    """Keys under which data was set aside that did not decode, or that was in the way of a chat that moved.

    Args:
        storage: it is only read.
        scope: which sessions the data was of.

    Returns:
        Each key, and why its data was set aside.
    """
    for prefix, why in _SET_ASIDE.items():
        async for keys, _ in key_pages(storage, Scope(prefix)):
            for key in keys:
                if scope.covers(key.removeprefix(prefix).partition(":")[2]):
                    yield key, why


async def updates_set_aside(storage: Storage) -> AsyncGenerator[tuple[str, bytes]]:
    """The updates that took a bot down, and were set aside by its polling: their keys, and what is stored."""
    cursor: str | None = None
    while True:
        page, cursor = await storage.scan(SET_ASIDE, cursor, _LARGEST_PAGE)
        for key, record in page:
            yield key, record.value
        if cursor is None:
            return


def _anything(_: Record | None) -> bool:
    return True

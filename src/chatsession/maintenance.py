"""Access to stored sessions as bytes, for the command line and the inspector, while bots use them."""

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
"""The approximate size of one page of an enumeration in memory."""
_SET_ASIDE = {
    QUARANTINE: "it did not decode, and was set aside; mend it and set it, or rm it",
    MOVED: "it was in the way when a chat moved, and was set aside; rm it",
}


class Maintenance:
    """Changes stored bytes as a bot does: under the key's lock. Use it in `async with`.

    Args:
        storage: opened at the beginning if it is not open, and then closed at the end.
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
        """Store bytes under a key, or delete it. Waits for the update that is running for the key.

        Args:
            key: the session's key, with its prefix.
            value: what to store; `None` deletes.
            seen: whether the change applies to what is stored (see `unchanged`); `None`: to anything.
            ttl: the new time to live, in seconds.
            expires_at: instead of `ttl`, the Unix time at which it expires; `None`: never. Without either, the expiry
                stays.
            wait: seconds to wait for a running update.
            committing: entered while the storage makes the change.

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
    """Take a lock from its holder, whose update then fails. Returns whether it was still the same lock."""
    change = Change(lock.key, Action.KEEP, lease=Lease(lock.key, lock.token), unlock=True)
    (outcome,) = await storage.commit_many([change])
    if isinstance(outcome, SessionError):
        raise outcome
    return isinstance(outcome, Committed)


def unchanged(seen: Record | None) -> Callable[[Record | None], bool]:
    """A condition for `Maintenance.change`: what is stored still has the version that was seen, or is still missing."""
    version = None if seen is None else seen.version
    return lambda record: (None if record is None else record.version) == version


async def read(storage: Storage, key: str) -> Record | None:
    """Read what is stored under a key now, without waiting for a running update."""
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
        """Whether the scope covers a key."""
        if key.startswith(RESERVED) and not self.prefix.startswith((*_SET_ASIDE, SET_ASIDE)):
            return False
        return key.startswith(self.prefix) and not key.startswith(PREFIXES) and not is_foreign(key, self.others)


def is_mark(key: str) -> bool:
    """Whether this is not a session's key, but the one under which a manager records its prefix."""
    return key.startswith(PREFIXES)


async def scope_of(storage: Storage, prefix: str | None) -> Scope:
    """The sessions of the manager with this prefix, without those of managers with longer ones; `None`: all."""
    return Scope() if prefix is None else Scope(prefix, await longer_prefixes(storage, prefix))


async def pages(
    storage: Storage,
    scope: Scope,
    cursor: str | None = None,
    total: int = 0,
    wanted: Callable[[str, Record], bool] | None = None,
) -> AsyncGenerator[tuple[list[tuple[str, Record]], str | None]]:
    """Enumerate stored sessions in pages, each with the cursor of the next. The larger the sessions, the fewer a page.

    Args:
        storage: only read.
        scope: which sessions.
        cursor: where to begin.
        total: stop after this many sessions; 0: never.
        wanted: a filter; `None`: all of them.
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
    """Enumerate the keys of stored sessions in pages of at most `limit` keys; see `pages`."""
    while True:
        keys, cursor = await storage.scan_keys(scope.prefix, cursor, limit)
        yield [key for key in keys if scope.covers(key)], cursor
        if cursor is None:
            return


async def count(storage: Storage, scope: Scope) -> int:
    """The number of sessions."""
    return sum([len(keys) async for keys, _ in key_pages(storage, scope)])


async def set_aside(storage: Storage, scope: Scope) -> AsyncGenerator[tuple[str, str]]:
    """Enumerate data that was set aside because it did not decode, or because a chat moved to its key.

    Args:
        storage: only read.
        scope: the sessions to which the data belonged.

    Returns:
        Each key, and why its data was set aside.
    """
    for prefix, why in _SET_ASIDE.items():
        async for keys, _ in key_pages(storage, Scope(prefix)):
            for key in keys:
                if scope.covers(key.removeprefix(prefix).partition(":")[2]):
                    yield key, why


async def updates_set_aside(storage: Storage) -> AsyncGenerator[tuple[str, bytes]]:
    """Enumerate the updates that polling has set aside because they killed the bot: their keys and stored bytes."""
    async for entries, _ in pages(storage, Scope(SET_ASIDE)):
        for key, record in entries:
            yield key, record.value


def _anything(_: Record | None) -> bool:
    return True

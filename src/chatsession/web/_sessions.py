"""Finding, reading and changing stored sessions, beside a bot that does the same."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from types import TracebackType
from typing import NamedTuple, Self

from msgspec import UNSET, Struct, UnsetType

from chatsession.errors import SessionConflictError
from chatsession.maintenance import Maintenance, read
from chatsession.storages import Record, Storage
from chatsession.web._latencies import Latencies

KEYS_A_PAGE = 100
SECONDS_A_SEARCH = 1.5
"""After these a search answers with what it has found, and where to go on."""
LOCK_TIMEOUT = 5.0
MOST_UNDOS = 50
MOST_BYTES_TO_UNDO = 128 * 1024 * 1024


class Found(NamedTuple):
    """A page of keys."""

    exact: bool
    """A session has exactly the key that was asked for."""
    keys: list[str]
    cursor: str | None
    """Where to go on; `None`: these were the last."""


class ChangedMeanwhileError(Exception):
    """Something else is stored than the one who wanted to change it had seen; nothing was written."""

    def __init__(self) -> None:
        super().__init__("Somebody else changed this session meanwhile")


class NothingToUndoError(Exception):
    """The change is forgotten, or was undone before."""


class _Undo(Struct, frozen=True):
    key: str
    before: Record | None
    after: str


class Sessions:
    """The sessions of a storage. Used by `async with`.

    A change takes the key's lock, as an update of the bot's does, and is made only if what is stored is what was
    seen.

    Args:
        storage: opened and closed here, unless it is open.
    """

    def __init__(self, storage: Storage) -> None:
        self.latencies = Latencies()
        self._storage = storage
        self._maintenance = Maintenance(storage)
        self._undos: OrderedDict[str, _Undo] = OrderedDict()

    async def __aenter__(self) -> Self:
        await self._maintenance.__aenter__()
        return self

    async def __aexit__(self, _type: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None):
        await self._maintenance.__aexit__()

    async def find(self, prefix: str, cursor: str | None) -> Found:
        """One page of the keys that begin with a prefix.

        Args:
            prefix: empty: all keys.
            cursor: of the page before.
        """
        exact = bool(prefix) and cursor is None and await self.read(prefix) is not None
        end = time.monotonic() + SECONDS_A_SEARCH
        keys: list[str] = []
        while True:
            more, cursor = await self._storage.scan_keys(prefix, cursor, KEYS_A_PAGE - len(keys))
            keys += more
            if cursor is None or len(keys) >= KEYS_A_PAGE or time.monotonic() > end:
                return Found(exact, keys, cursor)

    async def read(self, key: str) -> Record | None:
        """What is stored under a key now; waits for nobody."""
        with self.latencies.measured("read"):
            return await read(self._storage, key)

    async def write(self, key: str, seen: str, value: bytes) -> tuple[Record | None, str]:
        """Store other bytes under a key; it expires when it would have.

        Args:
            key: the session key.
            seen: the mark (`mark_of`) of what was seen.
            value: what to store.

        Returns:
            What is stored now, and the name of this change for `undo`.

        Raises:
            ChangedMeanwhileError: something else is stored than what was seen.
            SessionLockTimeoutError: the bot holds the key.
        """
        return await self._change(key, seen, value)

    async def delete(self, key: str, seen: str) -> tuple[Record | None, str]:
        """Remove what is stored under a key; arguments, result and errors as of `write`."""
        return await self._change(key, seen, None)

    async def undo(self, name: str) -> tuple[str, Record | None, str]:
        """Put back what a change had replaced, provided that nobody has changed it again.

        Args:
            name: of the change.

        Returns:
            The key, what is stored now, and the name of this change.

        Raises:
            NothingToUndoError: the change is not known any more.
            ChangedMeanwhileError: something else is stored than the change had left.
        """
        undo = self._undos.get(name)
        if undo is None:
            raise NothingToUndoError("this change was undone already, or was made too long ago")
        before = undo.before
        expires_at = before.expires_at if before is not None else None
        if expires_at is not None and expires_at <= self._storage.now():
            raise NothingToUndoError("what the change had replaced would have expired meanwhile")
        value = before.value if before is not None else None
        record, again = await self._change(undo.key, undo.after, value, expires_at)
        self._undos.pop(name, None)
        return undo.key, record, again

    async def _change(
        self, key: str, seen: str, value: bytes | None, expires_at: float | UnsetType | None = UNSET
    ) -> tuple[Record | None, str]:
        try:
            before = await self._maintenance.change(
                key,
                value,
                seen=lambda record: mark_of(record) == seen,
                expires_at=expires_at,
                wait=LOCK_TIMEOUT,
                committing=self.latencies.measured("commit"),
            )
        except SessionConflictError:
            raise ChangedMeanwhileError from None
        after = await self.read(key)
        return after, self._remember(key, before, after, value)

    def _remember(self, key: str, before: Record | None, after: Record | None, value: bytes | None) -> str:
        # Should the bot have been faster than this look, the undo is refused, as it must be.
        unchanged = (after.value if after is not None else None) == value
        name = secrets.token_urlsafe(8)
        self._undos[name] = _Undo(key, before, mark_of(after) if unchanged else "")
        while len(self._undos) > MOST_UNDOS or (len(self._undos) > 1 and self._bytes_to_undo > MOST_BYTES_TO_UNDO):
            self._undos.popitem(last=False)
        return name

    @property
    def _bytes_to_undo(self) -> int:
        return sum(len(undo.before.value) for undo in self._undos.values() if undo.before is not None)


def mark_of(record: Record | None) -> str:
    """Tells one version of what is stored under a key from all others, and from nothing."""
    if record is None:
        return "nothing"
    return hashlib.sha256(repr(record.version).encode()).hexdigest()[:24]

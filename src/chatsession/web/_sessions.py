"""Reading and changing stored sessions, beside a bot that does the same."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from typing import Self

from msgspec import UNSET, Struct, UnsetType, structs

from chatsession.errors import SessionConflictError
from chatsession.maintenance import Maintenance, read
from chatsession.storages import Record, Storage
from chatsession.web._latencies import Latencies

LOCK_TIMEOUT = 5.0
MOST_UNDOS = 50
MOST_BYTES_TO_UNDO = 128 * 1024 * 1024


class ChangedMeanwhileError(Exception):
    """What is stored is not what the page had shown; nothing was written."""

    def __init__(self) -> None:
        super().__init__("This session has changed meanwhile")


class NothingToUndoError(Exception):
    """The change is forgotten, or was undone before."""


class Change(Struct, frozen=True):
    """A change that was made here, and can be undone."""

    key: str
    before: Record | None
    after: str
    """The mark of what it left."""
    what: str
    at: float
    """Unix time in seconds."""


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
        self._undos: OrderedDict[str, Change] = OrderedDict()

    async def __aenter__(self) -> Self:
        await self._maintenance.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._maintenance.__aexit__()

    async def read(self, key: str) -> Record | None:
        """What is stored under a key now; takes no lock."""
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
        return await self._change(key, seen, value, "edited")

    async def delete(self, key: str, seen: str) -> tuple[Record | None, str]:
        """Remove what is stored under a key; arguments, result and errors as of `write`."""
        return await self._change(key, seen, None, "deleted")

    async def expire(self, key: str, seen: str, seconds: float | None) -> tuple[Record | None, str]:
        """Let a session expire after so many seconds; `None`: never. Otherwise as `write`."""
        before = await self.read(key)
        if before is None or mark_of(before) != seen:
            raise ChangedMeanwhileError
        expires_at = None if seconds is None else self._storage.now() + seconds
        return await self._change(key, seen, before.value, "expiry changed", expires_at)

    @property
    def changes(self) -> list[tuple[str, Change]]:
        """The changes that can be undone, with the name of each; the newest first."""
        return list(reversed(self._undos.items()))

    async def undo(self, name: str) -> tuple[str, Record | None, str]:
        """Put back what a change had replaced, unless the session has changed since.

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
        expires_at = UNSET if before is None else before.expires_at
        if isinstance(expires_at, float) and expires_at <= self._storage.now():
            raise NothingToUndoError("what the change had replaced would have expired meanwhile")
        value = before.value if before is not None else None
        record, again = await self._change(undo.key, undo.after, value, "put back", expires_at, undone=name)
        self._reopen(undo, self._undos[again].after)
        return undo.key, record, again

    def _reopen(self, undone: Change, mark: str) -> None:
        """Let the change before one that was undone be undone, too: what it left is stored again, as a new version."""
        left = mark_of(undone.before)
        for name, change in self._undos.items():
            if change.key == undone.key and change.after == left:
                self._undos[name] = structs.replace(change, after=mark)

    async def _change(
        self,
        key: str,
        seen: str,
        value: bytes | None,
        what: str,
        expires_at: float | UnsetType | None = UNSET,
        *,
        undone: str = "",
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
        self._undos.pop(undone, None)
        if before is None and what == "edited":
            what = "created"
        return after, self._remember(key, before, after, value, what)

    def _remember(self, key: str, before: Record | None, after: Record | None, value: bytes | None, what: str) -> str:
        # Should the bot have been faster than this look, the undo is refused, as it must be.
        unchanged = (after.value if after is not None else None) == value
        name = secrets.token_urlsafe(8)
        self._undos[name] = Change(key, before, mark_of(after) if unchanged else "", what, time.time())
        while len(self._undos) > MOST_UNDOS or (len(self._undos) > 1 and self._bytes_to_undo > MOST_BYTES_TO_UNDO):
            self._undos.popitem(last=False)
        return name

    @property
    def _bytes_to_undo(self) -> int:
        return sum(len(undo.before.value) for undo in self._undos.values() if undo.before is not None)


def mark_of(record: Record | None) -> str:
    """Identifies the stored version of a key, or that nothing is stored."""
    if record is None:
        return "nothing"
    return hashlib.sha256(repr(record.version).encode()).hexdigest()[:24]

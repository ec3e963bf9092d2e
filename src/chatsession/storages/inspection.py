"""What some storages can tell beyond what every `Storage` must: for people who look after one, never for the core.

A storage has a power when it has the method; callers ask `isinstance(storage, ListsLocks)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from chatsession.storages._shared.retries import retries as retries

_UNITS = ("B", "KiB", "MiB", "GiB")


def size_text(number: float) -> str:
    """Bytes for people: `1.2 KiB`, as the command line and the inspector write them."""
    if number < 1024:
        return f"{number:.0f} B"
    power = min(int(math.log(number, 1024)), len(_UNITS) - 1)
    return f"{number / 1024**power:.1f} {_UNITS[power]}"


class HeldLock(Struct, frozen=True):
    """A key that somebody holds at this moment."""

    key: str
    token: int
    """The fencing token; giving it back (`Change` with `unlock`) breaks the lock."""
    until: float
    """Unix time in seconds at which the lease ends unless it is renewed."""
    holder: str | None = None
    """As far as the storage knows it."""
    since: float | None = None
    """Unix time in seconds at which it was locked; `None`: not kept by this storage."""
    waiters: int = 0
    dead: bool = False
    """The holder is certainly gone; whoever comes next gets the lock at once."""


class Fact(Struct, frozen=True):
    """Something worth knowing of a storage; holds no credentials and no session data."""

    name: str
    value: str
    advice: str | None = None
    """What to do about it; `None`: all is well."""


@runtime_checkable
class ListsLocks(Protocol):
    """Knows which keys are locked."""

    async def list_locks(self, prefix: str, limit: int) -> Sequence[HeldLock]:
        """Give the locks whose lease has not run out.

        Args:
            prefix: the beginning of their keys; empty: all.
            limit: the most to give.
        """
        ...


@runtime_checkable
class Tells(Protocol):
    """Knows about its server, or its file."""

    async def facts(self) -> Sequence[Fact]:
        """Versions, sizes, and how durable a commit is."""
        ...


@runtime_checkable
class CountsExpired(Protocol):
    """Keeps expired sessions until they are swept, and can count them."""

    async def count_expired(self) -> int:
        """Give the number of expired sessions that still take room."""
        ...


@runtime_checkable
class ListsUnreadable(Protocol):
    """Keeps sessions where other things may lie between them, which an enumeration leaves out."""

    async def list_unreadable(self, limit: int) -> Sequence[Fact]:
        """Find what lies there and cannot be read as a session.

        Args:
            limit: the most to return.

        Returns:
            For each its name, and what is wrong with it.
        """
        ...

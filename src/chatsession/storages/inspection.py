"""Optional powers of storages, for people who administer one; never used by the core.

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
    """A key that is locked at this moment."""

    key: str
    token: int
    """The fencing token. A `Change` with this lease and `unlock` breaks the lock."""
    until: float
    """Unix time in seconds at which the lease ends unless it is renewed."""
    holder: str | None = None
    """As far as it is known."""
    since: float | None = None
    """Unix time in seconds at which it was locked; `None`: not kept by this storage."""
    waiters: int = 0
    dead: bool = False
    """The holder certainly no longer exists; the next request gets the lock immediately."""


class Fact(Struct, frozen=True):
    """A fact about a storage, without credentials or session data."""

    name: str
    value: str
    advice: str | None = None
    """What to do about it; `None`: all is well."""


@runtime_checkable
class ListsLocks(Protocol):
    """Lists the locked keys."""

    async def list_locks(self, prefix: str, limit: int) -> Sequence[HeldLock]:
        """List the locks whose lease has not expired.

        Args:
            prefix: the beginning of their keys; empty: all.
            limit: the largest number to return.
        """
        ...


@runtime_checkable
class Tells(Protocol):
    """Reports facts about its server or file."""

    async def facts(self) -> Sequence[Fact]:
        """Versions, sizes, and how durable a commit is."""
        ...


@runtime_checkable
class CountsExpired(Protocol):
    """Counts expired sessions that have not been swept yet."""

    async def count_expired(self) -> int:
        """The number of expired sessions that still take space."""
        ...


@runtime_checkable
class ListsUnreadable(Protocol):
    """Lists what is stored among its sessions but is not a readable session; enumerations leave it out."""

    async def list_unreadable(self, limit: int) -> Sequence[Fact]:
        """List what cannot be read as a session.

        Args:
            limit: the largest number to return.

        Returns:
            The name of each, and its problem.
        """
        ...

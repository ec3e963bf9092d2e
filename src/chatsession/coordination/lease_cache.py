"""Leases kept for a moment after their update, while no other process could want them.

A chat's updates come in bursts. As long as a process is alone with a storage, it need not give a lock back only to
take it again for the next update: it keeps the lock for a second, and what is stored with it, so that the next update
begins without a trip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from chatsession.storages import Change, Record

Acquired = TypeVar("Acquired")

KEPT_SECONDS = 1.0
"""Without an update, a lease is kept for at most twice as long."""
LONGEST_KEPT = 2.0
"""Seconds after which a lease is given back although its chat is busy: another process may wait for it."""
MOST_KEPT = 10_000
MOST_KEPT_BYTES = 4096
"""Of one session: what is kept with a lock fills no more than 40 MB, however large sessions are."""


class LeaseCache(Generic[Acquired]):
    """What was granted and not given back yet, by key.

    Args:
        give_back: takes what nobody came for.
    """

    __slots__ = ("_give_back", "_new", "_old", "_timer")

    def __init__(self, give_back: Callable[[Acquired], object]) -> None:
        self._give_back = give_back
        self._new: dict[str, Acquired] = {}
        self._old: dict[str, Acquired] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def may_keep(self, before: Record | None, change: Change | None) -> bool:
        """Whether a lease may be kept with a session: only what is small, and does not expire meanwhile.

        Args:
            before: what was stored.
            change: what its update makes of it.
        """
        if len(self._new) + len(self._old) >= MOST_KEPT:
            return False
        if change is not None and (change.ttl is not None or len(change.value) > MOST_KEPT_BYTES):
            return False
        return before is None or (before.expires_at is None and len(before.value) <= MOST_KEPT_BYTES)

    def keep(self, key: str, grant: Acquired) -> None:
        """Keep a grant; the key has none here."""
        self._new[key] = grant
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._age)

    def take(self, key: str) -> Acquired | None:
        """Take a key's grant out, if there is one."""
        return self._new.pop(key, None) or self._old.pop(key, None)

    def give_back_all(self) -> None:
        """Keep nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for grants in (self._old, self._new):
            for grant in grants.values():
                self._give_back(grant)
            grants.clear()

    def _age(self) -> None:
        self._timer = None
        for grant in self._old.values():
            self._give_back(grant)
        self._old, self._new = self._new, {}
        if self._old:
            self._timer = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._age)

"""Keeps leases for a moment after their update, while no other process can want them.

A chat's updates come in bursts. While a process is alone with a storage, it need not release a lock only to
take it again for the next update: it keeps the lock and the record for a second, so that the next update
begins without a trip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from chatsession.storages import Change, Record

Acquired = TypeVar("Acquired")

KEPT_SECONDS = 1.0
"""Without a further update, a lease is kept for at most twice as long."""
LONGEST_KEPT = 2.0
"""Seconds after which a lease is released even if its chat is busy: another process may wait for it."""
MOST_KEPT = 10_000
MOST_KEPT_BYTES = 4096
"""The largest session that is kept with its lease, so that all of them take no more than 40 MB."""


class LeaseCache(Generic[Acquired]):
    """Kept leases by key.

    Args:
        give_back: releases a lease that was not taken.
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
        """Whether a lease may be kept with its session: only if the session is small and does not expire.

        Args:
            before: what was stored before the update.
            change: the update's change.
        """
        if len(self._new) + len(self._old) >= MOST_KEPT:
            return False
        if change is not None and (change.ttl is not None or len(change.value) > MOST_KEPT_BYTES):
            return False
        return before is None or (before.expires_at is None and len(before.value) <= MOST_KEPT_BYTES)

    def keep(self, key: str, grant: Acquired) -> None:
        """Keep the lease of a key that has none here."""
        self._new[key] = grant
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._age)

    def take(self, key: str) -> Acquired | None:
        """Take out the lease of a key, if there is one."""
        return self._new.pop(key, None) or self._old.pop(key, None)

    def give_back_all(self) -> None:
        """Release all kept leases."""
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

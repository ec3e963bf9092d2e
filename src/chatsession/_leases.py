"""Leases that this process holds, renewed for as long as their handlers run."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence

from chatsession.errors import StorageError, shown
from chatsession.storages import Lease, Storage

_log = logging.getLogger("chatsession")


class Leases:
    """Renews what is held for longer than a third of its lease, many in one call.

    One timer serves all leases, and there is none while nothing is held.
    """

    __slots__ = ("_due", "_renewing", "_storage", "_timer")

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._due: dict[Lease, tuple[float, float]] = {}  # when to renew (loop time), and for how many seconds
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many leases are held."""
        return len(self._due)

    def add(self, lease: Lease, seconds: float) -> None:
        """Renew this lease from now on; it was just granted for `seconds`."""
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds / 3
        self._due[lease] = (when, seconds)
        if self._timer is not None and self._timer.when() > when:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_at(when, self._tick)

    def holds(self, lease: Lease) -> bool:
        """Is this lease certain to be held yet, by the time of this process?"""
        due = self._due.get(lease)
        return due is not None and asyncio.get_running_loop().time() < due[0] + due[1] / 3

    def drop(self, lease: Lease) -> None:
        """Renew it no more."""
        self._due.pop(lease, None)

    def stop(self) -> None:
        """Renew nothing any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._renewing is not None:
            self._renewing.cancel()

    def _tick(self) -> None:
        self._timer = None
        if not self._due:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = [lease for lease, (when, _) in self._due.items() if when <= now]
        if due and self._renewing is None:
            self._renewing = loop.create_task(self._renew(due))
            self._renewing.add_done_callback(self._renewed)
        soonest = min(max(when - now, seconds / 10) for when, seconds in self._due.values())
        self._timer = loop.call_later(soonest, self._tick)

    def _renewed(self, _: asyncio.Task[None]) -> None:
        self._renewing = None

    async def _renew(self, due: list[Lease]) -> None:
        by_length: defaultdict[float, list[Lease]] = defaultdict(list)
        for lease in due:
            if lease in self._due:  # it may have been dropped before this task began
                by_length[self._due[lease][1]].append(lease)
        for seconds, leases in by_length.items():
            try:
                held = await self._storage.renew_many(leases, seconds)
            except StorageError as error:  # the next tick tries again; the commit finds out what became of it
                _log.warning("%d session locks could not be renewed: %s", len(leases), error)
                continue
            self._note(leases, held, seconds)

    def _note(self, leases: list[Lease], held: Sequence[bool], seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        for lease, mine in zip(leases, held, strict=True):
            if lease not in self._due:
                continue
            if mine:
                self._due[lease] = (now + seconds / 3, seconds)
            else:
                self.drop(lease)
                _log.warning("the lock of session %s was lost while its handler ran", shown(lease.key))

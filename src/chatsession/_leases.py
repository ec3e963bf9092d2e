"""Leases that this process holds, renewed for as long as their handlers run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from chatsession.errors import StorageError, shown
from chatsession.storages import Lease, Storage

_log = logging.getLogger("chatsession")


_TICKS = 6
"""Of its clock in the time of one lease; it is first renewed at the second, and may fail at three more."""


class Leases:
    """Renews what is held for longer than a sixth of its lease, many in one call.

    Nearly all leases are given back long before, so adding and dropping one costs next to nothing: a lease is `young`
    until the next tick of a clock, then `old`, and those that were old already are renewed at a tick. There is no
    clock while nothing is held.
    """

    __slots__ = ("_clocks", "_storage")

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._clocks: dict[float, _Clock] = {}

    def __len__(self) -> int:
        """How many leases are held."""
        return sum(len(clock.young) + len(clock.old) for clock in self._clocks.values())

    def add(self, lease: Lease, seconds: float) -> None:
        """Renew this lease from now on; it was just granted for `seconds`."""
        clock = self._clocks.get(seconds)
        if clock is None:
            clock = self._clocks[seconds] = _Clock(self._storage, seconds)
        clock.young[lease.key] = lease
        if clock.timer is None:
            clock.start()

    def holds(self, lease: Lease) -> bool:
        """Is this lease certain to be held yet, by the time of this process?"""
        return any(clock.holds(lease) for clock in self._clocks.values())

    def drop(self, lease: Lease) -> None:
        """Renew it no more."""
        for clock in self._clocks.values():
            clock.drop(lease)

    def stop(self) -> None:
        """Renew nothing any more."""
        for clock in self._clocks.values():
            clock.stop()
        self._clocks.clear()


class _Clock:
    """All leases of one length: at most one of each key, because one update of a key runs at a time."""

    __slots__ = ("_doubtful", "_renewing", "_seconds", "_storage", "_ticked", "old", "timer", "young")

    def __init__(self, storage: Storage, seconds: float) -> None:
        self._storage = storage
        self._seconds = seconds
        self._ticked = 0.0
        self._doubtful = False
        self._renewing: asyncio.Task[None] | None = None
        self.young: dict[str, Lease] = {}
        """Granted or renewed since the last tick."""
        self.old: dict[str, Lease] = {}
        """To be renewed at the next."""
        self.timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._ticked = loop.time()
        self.timer = loop.call_at(self._ticked + self._seconds / _TICKS, self._tick)

    def drop(self, lease: Lease) -> None:
        if self.young.get(lease.key) == lease:
            del self.young[lease.key]
        elif self.old.get(lease.key) == lease:
            del self.old[lease.key]

    def holds(self, lease: Lease) -> bool:
        if self._doubtful or self._is_late():  # a process that stood still for long has missed ticks
            return False
        return lease in (self.young.get(lease.key), self.old.get(lease.key))

    def stop(self) -> None:
        self.young.clear()
        self.old.clear()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self._renewing is not None:
            self._renewing.cancel()

    def _tick(self) -> None:
        self.timer = None
        if not self.old:  # all that were doubtful have been given back
            self._doubtful = False
        if self._is_late():  # nobody knows how old any of them is
            self._doubtful = True
            self._age()
        if self.old and self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew(list(self.old.values())))
            self._renewing.add_done_callback(self._renewed)
        self._age()
        if self.old:
            self.start()

    def _is_late(self) -> bool:
        return asyncio.get_running_loop().time() - self._ticked > 2 * self._seconds / _TICKS

    def _age(self) -> None:
        self.old.update(self.young)
        self.young.clear()

    def _renewed(self, _: asyncio.Task[None]) -> None:
        self._renewing = None

    async def _renew(self, due: list[Lease]) -> None:
        due = [lease for lease in due if self.old.get(lease.key) == lease]  # some were dropped before this began
        if not due:
            return
        try:
            held = await self._storage.renew_many(due, self._seconds)
        except StorageError as error:  # the next tick tries again; the commit finds out what became of it
            self._doubtful = True
            _log.warning("%d session locks could not be renewed: %s", len(due), error)
            return
        self._doubtful = False
        self._note(due, held)

    def _note(self, leases: list[Lease], held: Sequence[bool]) -> None:
        for lease, mine in zip(leases, held, strict=True):
            if self.old.get(lease.key) != lease:
                continue
            del self.old[lease.key]
            if mine:
                self.young[lease.key] = lease
            else:
                _log.warning("the lock of session %s was lost while its handler ran", shown(lease.key))

"""The leases that this process holds, which are renewed while their handlers run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from msgspec import Struct

from chatsession.errors import StorageError, shown
from chatsession.storages import Lease, Storage

_log = logging.getLogger("chatsession")


_TICKS = 6
"""Ticks of the clock per lease. A lease is first renewed at the second tick, and may fail to be at three more."""


_CERTAIN = 0.8
"""The part of its time for which a lease is certain to be held."""
_STEP = 0.05
"""The part of a lease's time by which the clock may be adjusted meanwhile."""


class Asked(Struct, frozen=True, gc=False):
    """When a lease was requested. It was granted later, and lasts longer."""

    steady: float
    clock: float

    @staticmethod
    def now() -> Asked:
        """The present moment."""
        return Asked(time.monotonic(), time.time())


class LeaseRenewer:
    """Renews the leases that are held for longer than a sixth of their time, many in one call.

    Nearly all leases are released long before, so adding and dropping one must cost next to nothing: a lease is `young`
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

    def held(self) -> list[Lease]:
        """All leases that are held."""
        return [
            lease for clock in self._clocks.values() for part in (clock.young, clock.old) for lease, _ in part.values()
        ]

    def add(self, lease: Lease, seconds: float, asked: Asked) -> None:
        """Renew a lease from now on. It was just granted for `seconds`."""
        clock = self._clocks.get(seconds)
        if clock is None:
            clock = self._clocks[seconds] = _Clock(self._storage, seconds)
        clock.young[lease.key] = lease, asked
        if clock.timer is None:
            clock.start()

    def certainly_held(self, lease: Lease) -> bool:
        """Whether a lease is certain to be held: not if this process was stopped for long.

        Nor if the clock was adjusted meanwhile: storages in files compare the end of a lease with it.
        """
        for clock in self._clocks.values():
            found = clock.young.get(lease.key) or clock.old.get(lease.key)
            if found is not None and found[0] == lease:
                asked = found[1]
                passed = time.monotonic() - asked.steady
                step = abs(time.time() - asked.clock - passed)
                return passed < _CERTAIN * clock.seconds and step < _STEP * clock.seconds
        return False

    def drop(self, lease: Lease) -> None:
        """Stop renewing a lease."""
        for clock in self._clocks.values():
            clock.drop(lease)

    def stop(self) -> None:
        """Stop renewing."""
        for clock in self._clocks.values():
            clock.stop()
        self._clocks.clear()


class _Clock:
    """All leases of one length: at most one of each key, because one update of a key runs at a time."""

    __slots__ = ("_renewing", "_storage", "old", "seconds", "timer", "young")

    def __init__(self, storage: Storage, seconds: float) -> None:
        self._storage = storage
        self.seconds = seconds
        self._renewing: asyncio.Task[None] | None = None
        self.young: dict[str, tuple[Lease, Asked]] = {}
        """Granted or renewed since the last tick."""
        self.old: dict[str, tuple[Lease, Asked]] = {}
        """To be renewed at the next tick."""
        self.timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self.timer = asyncio.get_running_loop().call_later(self.seconds / _TICKS, self._tick)

    def drop(self, lease: Lease) -> None:
        for leases in (self.young, self.old):
            if (found := leases.get(lease.key)) is not None and found[0] == lease:
                del leases[lease.key]

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
        if self.old and self._renewing is None:
            due = [lease for lease, _ in self.old.values()]
            self._renewing = asyncio.get_running_loop().create_task(self._renew(due))
            self._renewing.add_done_callback(self._renewed)
        self.old.update(self.young)
        self.young.clear()
        if self.old:
            self.start()

    def _renewed(self, _: asyncio.Task[None]) -> None:
        self._renewing = None

    async def _renew(self, due: list[Lease]) -> None:
        due = [lease for lease in due if self._is_old(lease)]  # some were dropped before this began
        lanes: dict[str, list[Lease]] = {}
        for lease in due:
            lanes.setdefault(self._storage.lane_of(lease.key), []).append(lease)
        # A stuck server neither delays nor fails the renewals of other servers.
        await asyncio.gather(*(self._renew_lane(leases) for leases in lanes.values()))

    async def _renew_lane(self, due: list[Lease]) -> None:
        asked = Asked.now()
        try:
            held = await self._storage.renew_many(due, self.seconds)
        except StorageError as error:  # the next tick tries again; the commit finds out whether the lease was lost
            _log.warning("%d session locks could not be renewed: %s", len(due), error)
            return
        self._note(due, held, asked)

    def _is_old(self, lease: Lease) -> bool:
        found = self.old.get(lease.key)
        return found is not None and found[0] == lease

    def _note(self, leases: list[Lease], held: Sequence[bool], asked: Asked) -> None:
        for lease, mine in zip(leases, held, strict=True):
            if not self._is_old(lease):
                continue
            del self.old[lease.key]
            if mine:
                self.young[lease.key] = lease, asked
            else:
                _log.warning("the lock of session %s was lost while its handler ran", shown(lease.key))

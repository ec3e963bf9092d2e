"""A world in which time, delays and faults come from one source of chance: every run can be made again.

The event loop is asyncio's own but for its clock, which jumps to the next thing that is due. The storage is the memory
storage as several processes would share it over a network that delays, breaks, and loses answers; a process can stand
still for longer than its leases, or die.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, TypeVar, cast

from chatsession import MemoryStorage, StorageUnavailableError
from chatsession.storages import Change, Lease, Locked, LockRequest

T = TypeVar("T")

LEASE = 20.0
PATIENCE = 5.0
LONGEST = 10_000.0
"""Seconds of the world's time after which it hangs."""


class HangsError(AssertionError):
    """Nothing will ever happen again, and somebody still waits."""


class _Clockwork(selectors.BaseSelector):
    """Waits by moving the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.longest = LONGEST
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or self.now > self.longest:
            raise HangsError(f"after {self.now:g} s")
        self.now += max(timeout, 0.0)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class SimulatedLoop(asyncio.SelectorEventLoop):
    """asyncio's loop in a time of its own."""

    def __init__(self) -> None:
        self._clockwork = _Clockwork()
        super().__init__(self._clockwork)
        self.over = asyncio.Event()

    def time(self) -> float:
        return self._clockwork.now

    def clean_up(self) -> None:
        """End what is left, so that the next world begins with nothing."""
        self._clockwork.longest *= 2
        self.over.set()
        while left := asyncio.all_tasks(self):  # whose ends may begin others
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.wait(left))


def _running() -> SimulatedLoop:
    return cast("SimulatedLoop", asyncio.get_running_loop())


@dataclass
class Faults:
    """How likely each mishap is, for each call to the storage, and how long delays are at most, in seconds."""

    refused: float = 0.0
    lost_answer: float = 0.0
    stall: float = 0.0
    delay: float = 0.05


@dataclass
class Server:
    """What the processes share."""

    random: Random
    faults: Faults
    main: MemoryStorage = field(init=False)
    seen: dict[str, float] = field(default_factory=dict[str, float])
    """When each waiter last repeated its wish."""

    def __post_init__(self) -> None:
        self.main = MemoryStorage(clock=lambda: asyncio.get_running_loop().time())


class SimulatedStorage(MemoryStorage):
    """One process's connection to the server."""

    shared: ClassVar[bool] = True
    batch_size: ClassVar[int] = 3
    batches_in_flight: ClassVar[int] = 2

    def __init__(self, server: Server) -> None:
        super().__init__(clock=server.main._clock)
        self._server = server
        self.dead = False
        for name in ("_records", "_numbers", "_locks", "_queues", "_deadlines", "_watched", "_order", "_places"):
            setattr(self, name, getattr(server.main, name))

    async def read_many(self, keys: Sequence[str]) -> Any:
        return await self._over_the_network(lambda: super(SimulatedStorage, self).read_many(keys))

    async def commit_many(self, changes: Sequence[Change]) -> Any:
        return await self._over_the_network(lambda: super(SimulatedStorage, self).commit_many(changes))

    async def lock_many(self, requests: Sequence[LockRequest]) -> Any:
        return await self._over_the_network(lambda: super(SimulatedStorage, self).lock_many(requests))

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Any:
        return await self._over_the_network(lambda: super(SimulatedStorage, self).renew_many(leases, seconds))

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        await self._over_the_network(lambda: super(SimulatedStorage, self).abandon_many(requests))

    def _lock(self, request: LockRequest) -> Locked | None:
        """As every storage: who has not repeated a wish for a while has died, and loses its place."""
        now, seen = self._clock(), self._server.seen
        seen[request.waiter] = now
        queue = self._queues.get(request.key, [])
        queue[:] = [waiter for waiter in queue if now - seen[waiter] < PATIENCE]
        if not queue:
            self._queues.pop(request.key, None)
        return super()._lock(request)

    async def wait_unlocked(self, request: LockRequest, attempt: int) -> None:
        await asyncio.sleep(self._server.random.uniform(0.0, 1.0))

    async def _over_the_network(self, call: Callable[[], Awaitable[T]]) -> T:
        random, faults = self._server.random, self._server.faults
        await self._travel(random, faults)
        if random.random() < faults.refused:
            raise StorageUnavailableError("the network broke on the way there")
        answer = await call()
        await self._travel(random, faults)
        if random.random() < faults.lost_answer:
            raise StorageUnavailableError("the network broke on the way back")
        return answer

    async def _travel(self, random: Random, faults: Faults) -> None:
        stall = random.random() < faults.stall
        await asyncio.sleep(random.uniform(0, 2.5 * LEASE) if stall else random.uniform(0, faults.delay))
        if self.dead:
            await _running().over.wait()
            raise StorageUnavailableError("the process is dead")


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a world to its end. Raises `HangsError` if it hangs."""
    loop = SimulatedLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main())
    finally:
        loop.clean_up()
        asyncio.set_event_loop(None)
        loop.close()

"""Draws what goes wrong next, does it, and writes it down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from itertools import count
from pathlib import Path
from random import Random
from typing import TypeAlias

import msgspec

from tools.torture.crew import Crew, Member, WorkerFailedError
from tools.torture.disk import Disk
from tools.torture.messages import Cancel, ChangeLoop, Fork, Forked, LoopChanged, Reopen, Reopened, Shift
from tools.torture.places import Place
from tools.torture.proxy import Direction, Link, Proxy

LARGEST_SHIFT = 1.25
"""Of a worker's clock, in leases."""
_FAR = 7200.0
"""Seconds by which a worker's clock may be off where the servers' clocks count."""
_MOST_AT_ONCE = 5
"""Events under way."""


class _NothingToHitError(Exception):
    """All workers are just starting or ending, or no connection is open."""


class Event(msgspec.Struct, kw_only=True):
    """One thing that went wrong. Times are of the machine's monotonic clock."""

    number: int
    name: str
    began: float
    ended: float | None = None
    target: str = ""
    detail: str = ""


Trouble: TypeAlias = Callable[[Event, Random], Awaitable[None]]


class Nemesis:
    """What is drawn depends on the seed alone; when it happens, and what is under way then, on the machine.

    Args:
        place: the storage.
        crew: the workers.
        proxies: before the servers.
        disk: on which the storage lies.
        log: where events are written down, one JSON line each at its end.
        seed: of what is drawn.
        pause: seconds between events on average.
        without: names of events that do not happen.
        only: the name of the only event that happens; `None`: all do.

    Attributes:
        failures: what nobody did on purpose, such as a worker that did not shut down.
        happened: how many events there were; one that met no worker or no connection is none.
        pause: as the argument; may be changed.
    """

    def __init__(
        self,
        place: Place,
        crew: Crew,
        proxies: list[Proxy],
        disk: Disk,
        log: Path,
        *,
        seed: int,
        pause: float,
        without: Collection[str] = (),
        only: str | None = None,
    ) -> None:
        self._place = place
        self._crew = crew
        self._proxies = proxies
        self._disk = disk
        self._log = log
        self._seed = seed
        self._random = Random(seed)
        self.pause = pause
        self._servers_in_trouble = False
        self._quiet = False
        self._running: set[asyncio.Task[None]] = set()
        self.failures: list[str] = []
        self.happened = 0
        self._drawn = count()
        self._troubles = {
            name: trouble
            for name, trouble in self._all_troubles().items()
            if name not in without and only in (None, name)
        }

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self.pause))
            while self._quiet or len(self._running) >= _MOST_AT_ONCE:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            self._begin()

    async def settle(self) -> None:
        """Wait until all is well again."""
        if self._running:
            await asyncio.wait(self._running)

    def _begin(self) -> None:
        names = list(self._troubles)
        (name,) = self._random.choices(names, [self._troubles[each][0] for each in names])
        _, trouble, at_servers = self._troubles[name]
        if at_servers and self._servers_in_trouble:
            return
        self._servers_in_trouble |= at_servers
        self._quiet = name == _QUIET_KILL
        event = Event(number=next(self._drawn), name=name, began=time.monotonic())
        task = asyncio.create_task(self._do(trouble, event, at_servers))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _do(self, trouble: Trouble, event: Event, at_servers: bool) -> None:
        try:
            await trouble(event, Random(1_000_003 * self._seed + event.number))
        except _NothingToHitError:
            return
        except WorkerFailedError as error:
            self.failures.append(f"{event.name}: {error}")
        except Exception as error:
            self.failures.append(f"{event.name}: {type(error).__name__}: {error}")
        finally:
            if at_servers:
                self._servers_in_trouble = False
            if event.name == _QUIET_KILL:
                self._quiet = False
        self.happened += 1
        event.ended = time.monotonic()
        with self._log.open("ab") as log:
            log.write(msgspec.json.encode(event) + b"\n")

    def _all_troubles(self) -> dict[str, tuple[float, Trouble, bool]]:
        """By name: how often, what, and whether it is one of those of which there is one at a time."""
        troubles: dict[str, tuple[float, Trouble, bool]] = {
            "handlers cancelled": (16, self._cancel, False),
            "clock shifted": (8, self._shift, False),
            "sessions closed and opened": (5, self._reopen, False),
            "worker stopped (SIGSTOP)": (12, self._stop, False),
            "event loop replaced": (3, self._change_loop, False),
        }
        if not self._place.own_clock:
            troubles["clock set by hours"] = (4, self._set_far, False)
        if self._place.shared:
            troubles["worker forked"] = (3, self._fork, False)
            troubles["worker killed (SIGKILL)"] = (16, self._kill, False)
            troubles["worker shut down (SIGTERM)"] = (6, self._terminate, False)
            troubles[_QUIET_KILL] = (1.5, self._kill_in_quiet, False)
        if self._proxies:
            troubles["connections cut"] = (12, self._cut, False)
            troubles["connections half closed"] = (8, self._half_close, False)
            troubles["bytes delayed"] = (8, self._delay, True)
            troubles["bytes stalled"] = (8, self._stall, True)
            troubles["connections refused"] = (5, self._refuse, True)
        for name, act in self._place.troubles().items():
            troubles[name] = (8 / len(self._place.troubles()), self._at_servers(act), True)
        for name, (take, give) in self._place.limits().items():
            troubles[name] = (3, self._limited(take, give), True)
        if self._disk.small and self._place.fills_disk:
            troubles["disk full"] = (3, self._limited(self._disk.fill, self._empty_disk), True)
        return troubles

    def _draw(self, event: Event, random: Random) -> Member:
        available = self._crew.available()
        if not available:
            raise _NothingToHitError
        member = random.choice(available)
        event.target = member.name
        return member

    def _draw_links(self, event: Event, random: Random) -> list[Link]:
        links = self._proxy(event, random).links()
        if not links:
            raise _NothingToHitError
        victims = random.sample(links, random.randint(1, len(links)))
        event.detail = f"{len(victims)} of {len(links)}"
        return victims

    async def _cancel(self, event: Event, random: Random) -> None:
        count = random.randint(1, 20)
        member = self._draw(event, random)
        event.detail = f"{count} handlers"
        member.tell(Cancel(count))

    async def _shift(self, event: Event, random: Random) -> None:
        await self._set_clock(event, random, random.uniform(-LARGEST_SHIFT, LARGEST_SHIFT) * self._place.lease)

    async def _set_far(self, event: Event, random: Random) -> None:
        await self._set_clock(event, random, random.choice([-1, 1]) * random.uniform(0.5, 1) * _FAR)

    async def _set_clock(self, event: Event, random: Random, shift: float) -> None:
        seconds = random.uniform(0.5, 4)
        member = self._draw(event, random)
        event.detail = f"{shift:+.2f} s for {seconds:.1f} s"
        member.tell(Shift(shift))
        await asyncio.sleep(seconds)
        if member.running:
            member.tell(Shift(0))

    async def _reopen(self, event: Event, random: Random) -> None:
        member = self._draw(event, random)
        with member.engaged():
            await member.ask(Reopen(), Reopened, 60)

    async def _fork(self, event: Event, random: Random) -> None:
        seconds = random.uniform(0.2, 2)
        member = self._draw(event, random)
        event.detail = f"{seconds:.1f} s"
        with member.engaged():
            if code := (await member.ask(Fork(seconds), Forked, 120)).code:
                raise WorkerFailedError(f"a forked child of {member.name} ended with code {code}: {member.log()}")

    async def _change_loop(self, event: Event, random: Random) -> None:
        member = self._draw(event, random)
        with member.engaged():
            await member.ask(ChangeLoop(), LoopChanged, 60)

    async def _stop(self, event: Event, random: Random) -> None:
        seconds = random.uniform(1.1, 2) * self._place.lease
        member = self._draw(event, random)
        event.detail = f"{seconds:.1f} s"
        member.stop()
        await asyncio.sleep(seconds)
        member.resume()

    async def _kill(self, event: Event, random: Random) -> None:
        member = self._draw(event, random)
        await member.kill()
        await self._crew.replace(member)

    async def _kill_in_quiet(self, event: Event, random: Random) -> None:
        """With nothing else going on: how long does a key stay blocked?"""
        mine = asyncio.current_task()
        while others := self._running - {mine}:
            await asyncio.wait(others)
        await asyncio.sleep(1)
        await self._kill(event, random)
        await asyncio.sleep(self._place.lease + 1)

    async def _terminate(self, event: Event, random: Random) -> None:
        member = self._draw(event, random)
        await member.terminate(60)
        await self._crew.replace(member)

    async def _cut(self, event: Event, random: Random) -> None:
        for link in self._draw_links(event, random):
            link.cut()

    async def _half_close(self, event: Event, random: Random) -> None:
        direction = random.choice(list(Direction))
        victims = self._draw_links(event, random)
        event.detail = f"{direction.value}, {event.detail}"
        for link in victims:
            link.half_close(direction)

    async def _delay(self, event: Event, random: Random) -> None:
        proxy = self._proxy(event, random)
        directions = _directions(random)
        delay, seconds = random.uniform(0.01, 0.2), random.uniform(0.2, 1)
        event.detail = f"{_shown(directions)} by {1000 * delay:.0f} ms for {seconds:.1f} s"
        proxy.delay = dict.fromkeys(directions, delay)
        await asyncio.sleep(seconds)
        proxy.delay = {}

    async def _stall(self, event: Event, random: Random) -> None:
        proxy = self._proxy(event, random)
        directions = _directions(random)
        seconds = random.uniform(0.1, 1) if random.random() < 0.8 else 1.5 * self._place.lease
        then = random.choice(["passed on", "cut"])
        event.detail = f"{_shown(directions)} for {seconds:.1f} s, then {then}"
        proxy.stall(*directions)
        await asyncio.sleep(seconds)
        if then == "cut":
            proxy.cut()
        proxy.resume()

    async def _refuse(self, event: Event, random: Random) -> None:
        proxy = self._proxy(event, random)
        seconds = random.uniform(0.1, 1)
        event.detail = f"{seconds:.1f} s"
        proxy.refusing = True
        proxy.cut()
        await asyncio.sleep(seconds)
        proxy.refusing = False

    def _at_servers(self, act: Callable[[Random], None]) -> Trouble:
        async def trouble(event: Event, random: Random) -> None:
            await asyncio.to_thread(act, random)

        return trouble

    def _limited(self, take: Callable[[], None], give: Callable[[], None]) -> Trouble:
        async def trouble(event: Event, random: Random) -> None:
            seconds = random.uniform(0.2, 1)
            event.detail = f"{seconds:.1f} s"
            await asyncio.to_thread(take)
            try:
                await asyncio.sleep(seconds)
            finally:
                await asyncio.to_thread(give)

        return trouble

    def _empty_disk(self) -> None:
        self._disk.empty()
        time.sleep(0.1)
        self._place.revive()

    def _proxy(self, event: Event, random: Random) -> Proxy:
        proxy = random.choice(self._proxies)
        event.target = f"server {self._proxies.index(proxy)}"
        return proxy


_QUIET_KILL = "worker killed (SIGKILL), all else quiet"


def _shown(directions: list[Direction]) -> str:
    return " and ".join(direction.value for direction in directions)


def _directions(random: Random) -> list[Direction]:
    both = list(Direction)
    return random.choice([both, both[:1], both[1:]])

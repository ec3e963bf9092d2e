"""Contenders on the same work, measured in turns, and checked: work that was not done has no figure."""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tools.benchmarks._meters import Meter, metered

Role: TypeAlias = Literal["ours", "peer", "floor"]

_MOST = 200_000
"""Updates in a round, however fast they are."""
_PATIENCE = 120.0
"""Seconds after which a round counts as stuck."""


@dataclass(frozen=True)
class Done:
    """How a run went, as far as the clock outside cannot tell.

    Args:
        latencies: seconds of each update, from its start until it was committed.
        seconds: of the whole run, by the clock of the program that did it.
        cpu: seconds that this program computed.
    """

    latencies: Sequence[float] = ()
    seconds: float | None = None
    cpu: float | None = None


Run: TypeAlias = Callable[[int], Awaitable[Done | None]]
"""Does so many updates, and returns when each is done (committed, where there is a storage)."""


@dataclass
class Running:
    """A contender that is set up: what is measured, what tells how many updates it has counted, what its server did."""

    run: Run
    counted: Callable[[], Awaitable[int]]
    meter: Meter | None = None


@dataclass(frozen=True)
class Round:
    """What was measured once."""

    updates: int
    seconds: float
    cpu: float
    p50: float | None
    p99: float | None
    server: Mapping[str, float]

    @property
    def microseconds(self) -> float:
        """Time of one update."""
        return self.seconds / self.updates * 1e6


@dataclass
class Contender:
    """One way to do the work.

    Args:
        name: in tables.
        setup: makes it ready, and clears away behind it.
        role: in the comparison.
        base: the name of the contender that does the same without any sessions, to tell what they add.
        step: updates are measured in multiples of this.
        least: updates of a round, however slow they are.
        warm: updates before those that are measured, at most.
        loop: makes the event loop; `None`: asyncio's own.
    """

    name: str
    setup: Callable[[], AbstractAsyncContextManager[Running]]
    role: Role = "peer"
    base: str | None = None
    step: int = 1
    least: int = 10
    warm: int = 1_000
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None
    updates: int = 0
    rounds: list[Round] = field(default_factory=list)
    failure: str | None = None
    """Why it has no figure."""

    @property
    def microseconds(self) -> float:
        """Median time of one update."""
        return statistics.median(each.microseconds for each in self.rounds)

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, as a part of the median; of fewer than four rounds, of the extremes."""
        times = sorted(each.microseconds for each in self.rounds)
        if len(times) >= 4:
            low, _, high = statistics.quantiles(times, n=4)
        else:
            low, high = times[0], times[-1]
        return (high - low) / 2 / statistics.median(times)

    def median(self, of: Callable[[Round], float | None]) -> float | None:
        """Of a figure in all rounds; `None` where it was not measured."""
        values = [value for each in self.rounds if (value := of(each)) is not None]
        return statistics.median(values) if values else None


class WorkNotDoneError(AssertionError):
    """The counts do not add up; the figure would be worth nothing."""


def measure(
    contenders: Sequence[Contender],
    rounds: int,
    seconds: float,
    *,
    until: float = math.inf,
    progress: Callable[[str], object] = lambda _: None,
) -> None:
    """Run all contenders in turns (A B C A B C …).

    A contender that fails, or whose work was not done, is left without figures; the others go on.

    Args:
        contenders: whatever is to be compared.
        rounds: of each, after one that finds out how many updates fill a round.
        seconds: that a round shall last.
        until: `time.monotonic()` from which on no round but the first is begun.
        progress: is told what is being done.
    """
    for number in range(rounds + 1):
        for place, contender in enumerate(contenders, 1):
            if number > 1 and time.monotonic() > until:
                return
            progress(f"round {number} of {rounds}, {place} of {len(contenders)}: {contender.name}")
            _attempt(contender, None if number else seconds)


def _attempt(contender: Contender, calibrate_to: float | None) -> None:
    if contender.failure is not None:
        return
    try:
        with asyncio.Runner(loop_factory=contender.loop) as runner:
            if calibrate_to is None:
                contender.rounds.append(runner.run(asyncio.wait_for(_round(contender), _PATIENCE)))
            else:
                contender.updates = runner.run(asyncio.wait_for(_calibrated(contender, calibrate_to), _PATIENCE))
    except Exception as error:  # one contender's failure is its own; the table tells of it
        contender.failure = f"{type(error).__name__}: {error}"
        contender.rounds.clear()


async def _round(contender: Contender) -> Round:
    async with contender.setup() as running:
        if contender.warm:
            await running.run(_in_steps(min(contender.warm, contender.updates), contender))
        before = await running.counted()
        with metered(running.meter) as server, _without_garbage_collection():
            computed, start = time.process_time(), time.perf_counter()
            done = await running.run(contender.updates) or Done()
            seconds, cpu = time.perf_counter() - start, time.process_time() - computed
        counted = await running.counted() - before
    if counted != contender.updates:
        raise WorkNotDoneError(f"{counted} of {contender.updates} updates were counted")
    latencies = sorted(done.latencies)
    return Round(
        contender.updates,
        seconds if done.seconds is None else done.seconds,
        cpu if done.cpu is None else done.cpu,
        percentile(latencies, 50),
        percentile(latencies, 99),
        server,
    )


async def _calibrated(contender: Contender, seconds: float) -> int:
    """How many updates take so long."""
    async with contender.setup() as running:
        updates = _in_steps(contender.least, contender)
        await running.run(updates)
        while True:
            start = time.perf_counter()
            done = await running.run(updates) or Done()
            took = done.seconds or time.perf_counter() - start
            enough = _in_steps(min(_MOST, math.ceil(updates * seconds / took)), contender)
            if took >= seconds / 4 or updates >= enough:
                return enough
            updates = _in_steps(min(enough, updates * 20), contender)


def _in_steps(updates: int, contender: Contender) -> int:
    return max(1, round(max(updates, contender.least) / contender.step)) * contender.step


@contextmanager
def _without_garbage_collection() -> Generator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The value below which so many percent are; `None` if there are none."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


async def in_flight(count: int, updates: int, handle: Callable[[int], Awaitable[object]]) -> Done:
    """Handle so many updates, `count` of them at the same time."""
    numbers, clock = iter(range(updates)), time.perf_counter
    latencies: list[float] = []

    async def worker() -> None:
        for number in numbers:
            start = clock()
            await handle(number)
            latencies.append(clock() - start)

    await asyncio.gather(*(worker() for _ in range(count)))
    return Done(latencies)

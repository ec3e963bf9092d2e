"""Contenders on the same work, measured in turns, and checked: work that was not done has no figure."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

Run = Callable[[int], Awaitable[None]]
"""Does so many updates, and returns when each is done (committed, where there is a storage)."""


@dataclass
class Running:
    """A contender that is set up: what is measured, and what tells how many updates it has counted."""

    run: Run
    counted: Callable[[], Awaitable[int]]


@dataclass
class Contender:
    """One way to do the work.

    Args:
        name: in tables.
        updates: how many in one round.
        setup: makes it ready, and clears away behind it.
    """

    name: str
    updates: int
    setup: Callable[[], AbstractAsyncContextManager[Running]]
    seconds: list[float] = field(default_factory=list)

    @property
    def microseconds(self) -> float:
        """Median time of one update."""
        return statistics.median(self.seconds) / self.updates * 1e6

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, as a part of the median."""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / statistics.median(self.seconds)


class WorkNotDoneError(AssertionError):
    """The counts do not add up; the figure would be worth nothing."""


async def measure(contenders: Sequence[Contender], rounds: int) -> None:
    """Run all contenders in turns (A B C A B C …), after a round that does not count."""
    for number in range(rounds + 1):
        for contender in contenders:
            seconds = await _round(contender)
            if number:
                contender.seconds.append(seconds)


async def _round(contender: Contender) -> float:
    async with contender.setup() as running:
        await running.run(contender.updates // 4)
        before = await running.counted()
        gc.collect()
        gc.disable()
        start = time.perf_counter()
        await running.run(contender.updates)
        seconds = time.perf_counter() - start
        gc.enable()
        done = await running.counted() - before
        if done != contender.updates:
            raise WorkNotDoneError(f"{contender.name}: {done} of {contender.updates} updates were counted")
    return seconds


async def in_flight(count: int, updates: int, handle: Callable[[int], Awaitable[object]]) -> None:
    """Handle so many updates, `count` of them at the same time."""
    numbers = iter(range(updates))

    async def worker() -> None:
        for number in numbers:
            await handle(number)

    await asyncio.gather(*(worker() for _ in range(count)))

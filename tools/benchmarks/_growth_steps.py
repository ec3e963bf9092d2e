"""What each step takes on a storage with so many sessions."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from chatsession.storages import Action, Change, Storage
from chatsession.storages.inspection import CountsExpired, Tells
from tools.benchmarks._growth_chats import key_of, some_of, updates
from tools.benchmarks._growth_filled import Filled, some_keys
from tools.benchmarks._measure import WorkNotDoneError

PAGE = 500
SWEPT = 1_000
_IN_FLIGHT = 200
_BATCHES = 30

Raw = dict[str, float]


async def measured(filled: Filled, seconds: float) -> Raw:
    """All steps once, in milliseconds; each has done its work, or there are no figures.

    Args:
        filled: what they are done on.
        seconds: that updates go on, with many in flight.
    """
    keys = some_keys(filled.sessions, 100, seed=filled.tally.total())
    batches = [some_keys(filled.sessions, _IN_FLIGHT, seed) for seed in range(_BATCHES)]
    took: Raw = {
        "index lookup": await _each(map(lambda key: lambda: filled.look_up(key), keys)),
        "bare update": await _each(map(lambda key: lambda: filled.write([key]), keys[:50])),
        "bare update, 200 a transaction": await _share(batches, filled.write),
        f"bare page of {PAGE}": await _each(
            map(lambda start: lambda: filled.page(key_of(start), PAGE), _starts(filled.sessions))
        ),
        "open": await _each([lambda: _open(filled)] * 3),
    }
    async with filled.storage() as storage:
        took["read"] = await _each(map(lambda key: lambda: _read(storage, key), keys))
        one = await updates(storage, some_of(filled.sessions), 1, seconds / 2, filled.tally)
        many = await updates(storage, some_of(filled.sessions), _IN_FLIGHT, seconds, filled.tally)
        took["update, 1 in flight"] = one.raw["p50_ms"]
        took["update, 1 in flight, p99"] = one.raw["p99_ms"]
        took["update, 200 in flight"] = round(1000 * many.seconds / many.updates, 4)
        took["update, 200 in flight, p99"] = many.raw["p99_ms"]
        took[f"page of {PAGE}"] = await _each(_pages(storage, filled.sessions))
        took["sweep of 1,000"] = await _sweep(storage)
        took["sweep, nothing expired"] = await _each([lambda: _sweep_nothing(storage)] * 15)
        took["stats"] = await _each([lambda: _stats(storage)] * 10)
    return took


async def _each(steps: Iterable[Callable[[], Awaitable[object]]]) -> float:
    """The median time of these, in milliseconds."""
    times: list[float] = []
    for step in steps:
        begin = time.perf_counter()
        await step()
        times.append(time.perf_counter() - begin)
    return round(statistics.median(times) * 1000, 4)


async def _share(batches: Sequence[Sequence[str]], work: Callable[[Sequence[str]], Awaitable[object]]) -> float:
    """The milliseconds that each key took, all of these batches together."""
    begin = time.perf_counter()
    for batch in batches:
        await work(batch)
    return round((time.perf_counter() - begin) / sum(map(len, batches)) * 1000, 4)


async def _open(filled: Filled) -> None:
    async with filled.storage():
        pass


async def _read(storage: Storage, key: str) -> None:
    (record,) = await storage.read_many([key])
    if record is None:
        raise WorkNotDoneError(f"{key} is not stored")


def _starts(sessions: int) -> Sequence[int]:
    return [sessions * part // 9 for part in range(9)]


def _pages(storage: Storage, sessions: int) -> Iterable[Callable[[], Awaitable[None]]]:
    """Pages from all over the table; the last may not be full."""

    async def page(start: int) -> None:
        entries, _ = await storage.scan("chat:", key_of(start), PAGE)
        # The cursor is the key before the page in one storage, and the first on it in another.
        if abs(len(entries) - min(PAGE, sessions - start)) > 1:
            raise WorkNotDoneError(f"a page of {sessions - start} sessions had {len(entries)}")

    return (lambda start=start: page(start) for start in _starts(sessions))


async def _sweep(storage: Storage) -> float:
    """Store sessions that expire at once, and sweep them away."""
    keys = [f"gone:{number}" for number in range(SWEPT)]
    for begin in range(0, SWEPT, 500):
        await storage.commit_many([Change(key, Action.PUT, b"1", ttl=0.001) for key in keys[begin : begin + 500]])
    assert isinstance(storage, CountsExpired)
    await asyncio.sleep(0.01)
    if (expired := await storage.count_expired()) != SWEPT:
        raise WorkNotDoneError(f"{expired} of {SWEPT} sessions have expired")
    begin = time.perf_counter()
    swept = await storage.sweep(SWEPT)
    took = time.perf_counter() - begin
    if swept != SWEPT:
        raise WorkNotDoneError(f"{swept} of {SWEPT} expired sessions were swept")
    return round(took * 1000, 4)


async def _sweep_nothing(storage: Storage) -> None:
    if swept := await storage.sweep(SWEPT):
        raise WorkNotDoneError(f"{swept} sessions were swept that had not expired")


async def _stats(storage: Storage) -> None:
    assert isinstance(storage, Tells)
    assert isinstance(storage, CountsExpired)
    await storage.facts()
    await storage.count_expired()

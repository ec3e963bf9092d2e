"""What each step takes on a storage with so many sessions."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

from benchmarks._growth_chats import key_of, median, some_of, updates
from benchmarks._growth_filled import Filled, some_keys
from benchmarks._measure import WorkNotDoneError
from chatsession.storages import Action, Change, Storage
from chatsession.storages._powers import CountsExpired, Tells

PAGE = 500
SWEPT = 1_000
_IN_FLIGHT = 200

Raw = dict[str, float]


async def measured(filled: Filled, tally: Counter[str], seconds: float) -> Raw:
    """All steps, in milliseconds; each has done its work, or there are no figures."""
    keys = some_keys(filled.sessions, 400, seed=filled.sessions)
    took: Raw = {
        "index lookup": await _each(map(lambda key: lambda: filled.look_up(key), keys)),
        "bare update": await _each(map(lambda key: lambda: filled.write(key), keys[:200])),
        "open": await _each([lambda: _open(filled)] * 7),
    }
    async with filled.storage() as storage:
        took["read"] = await _each(map(lambda key: lambda: _read(storage, key), keys))
        one = await updates(storage, some_of(filled.sessions, 1), 1, seconds / 2, tally)
        many = await updates(storage, some_of(filled.sessions, 2), _IN_FLIGHT, seconds, tally)
        took["update, 1 in flight"] = one.raw["p50_ms"]
        took["update, 1 in flight, p99"] = one.raw["p99_ms"]
        took["update, 200 in flight, p99"] = many.raw["p99_ms"]
        took["updates per second, 200 in flight"] = many.raw["per_second"]
        took[f"page of {PAGE}"] = await _each(_pages(storage, filled.sessions))
        took["sweep of 1,000"] = await _sweep(storage)
        took["stats"] = await _each([lambda: _stats(storage)] * 5)
    return took


async def _each(steps: Iterable[Callable[[], Awaitable[object]]]) -> float:
    """The median time of these, in milliseconds."""
    times: list[float] = []
    for step in steps:
        begin = time.perf_counter()
        await step()
        times.append(time.perf_counter() - begin)
    return round(median(times) * 1000, 4)


async def _open(filled: Filled) -> None:
    async with filled.storage():
        pass


async def _read(storage: Storage, key: str) -> None:
    (record,) = await storage.read_many([key])
    if record is None:
        raise WorkNotDoneError(f"{key} is not stored")


def _pages(storage: Storage, sessions: int) -> Iterable[Callable[[], Awaitable[None]]]:
    """Pages from all over the table: the first of the keys that begin as some do, and the page after it."""
    cursors: list[str] = [key_of(sessions * part // 23)[:-1] for part in range(1, 22)]

    async def page(begin: str) -> None:
        entries, cursor = await storage.scan("chat:", begin, PAGE)
        if len(entries) != min(PAGE, sessions - _first_after(begin, sessions)) and cursor is not None:
            raise WorkNotDoneError(f"a page had {len(entries)} sessions")

    return (lambda begin=begin: page(begin) for begin in cursors)


def _first_after(begin: str, sessions: int) -> int:
    return min(int(begin.removeprefix("chat:").ljust(8, "0")), sessions)


async def _sweep(storage: Storage) -> float:
    """Store sessions that expire at once, and sweep them away."""
    keys = [f"gone:{number}" for number in range(SWEPT)]
    for begin in range(0, SWEPT, 500):
        await storage.commit_many([Change(key, Action.PUT, b"1", ttl=0.001) for key in keys[begin : begin + 500]])
    assert isinstance(storage, CountsExpired)
    while await storage.count_expired() < SWEPT:
        await asyncio.sleep(0.01)
    begin = time.perf_counter()
    swept = await storage.sweep(SWEPT)
    took = time.perf_counter() - begin
    if swept != SWEPT:
        raise WorkNotDoneError(f"{swept} of {SWEPT} expired sessions were swept")
    return round(took * 1000, 4)


async def _stats(storage: Storage) -> None:
    assert isinstance(storage, Tells)
    assert isinstance(storage, CountsExpired)
    await storage.facts()
    await storage.count_expired()

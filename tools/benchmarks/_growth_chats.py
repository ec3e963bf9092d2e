"""The sessions whose number grows, updates of them, and whether all of these were counted."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from chatsession import SessionManager
from chatsession.errors import SessionError
from chatsession.storages import Storage
from tools.benchmarks._measure import WorkNotDoneError

SMALL = 300
"""Bytes."""


class Chat(msgspec.Struct):
    """A session of any size."""

    count: int = 0
    text: str = ""


@dataclass(frozen=True)
class Figure:
    """What came of updates that went on for some time."""

    updates: int
    seconds: float
    latencies: Sequence[float]
    """In seconds, ascending."""

    @property
    def raw(self) -> dict[str, float]:
        """As it is kept in JSON."""
        return {
            "updates": self.updates,
            "per_second": round(self.updates / self.seconds, 1),
            "p50_ms": round(self.quantile(0.5) * 1000, 4),
            "p99_ms": round(self.quantile(0.99) * 1000, 4),
        }

    def quantile(self, share: float) -> float:
        """The latency that this share of the updates stayed below."""
        return self.latencies[min(int(len(self.latencies) * share), len(self.latencies) - 1)]


def key_of(number: int) -> str:
    """In the order of the numbers."""
    return f"chat:{number:08}"


def stored(size: int) -> bytes:
    """A session of so many bytes."""
    return msgspec.json.encode(Chat(text="x" * (size - len(msgspec.json.encode(Chat())))))


def some_of(count: int) -> Callable[[], str]:
    """Gives one of so many keys at a time."""
    return lambda: key_of(random.randrange(count))


async def updates(
    storage: Storage, next_key: Callable[[], str], flight: int, seconds: float, tally: Counter[str], size: int = SMALL
) -> Figure:
    """Count sessions up.

    Args:
        storage: is open.
        next_key: whose session is next.
        flight: so many at a time.
        seconds: how long.
        tally: how often each was counted up already, in this storage; is counted on.
        size: of a session that is not stored yet.

    Raises:
        WorkNotDoneError: the storage has other counts.
    """
    latencies: list[float] = []
    empty = msgspec.json.decode(stored(size), type=Chat)
    async with SessionManager(lambda: Chat(text=empty.text), type=Chat, storage=storage) as chats:
        begin = time.perf_counter()

        async def worker() -> None:
            now = time.perf_counter()
            while True:
                start, key = now, next_key()
                async with chats.open(key) as session:
                    session.data.count += 1
                now = time.perf_counter()
                latencies.append(now - start)
                tally[key] += 1
                touched.add(key)
                if now >= begin + seconds:
                    return

        touched: set[str] = set()
        await asyncio.gather(*(worker() for _ in range(flight)))
        took = time.perf_counter() - begin
    await check(storage, {key: tally[key] for key in touched})
    return Figure(len(latencies), took, sorted(latencies))


async def check(storage: Storage, expected: dict[str, int]) -> None:
    """See that these sessions are stored with these counts. Raises `WorkNotDoneError`."""
    decode = msgspec.json.Decoder(Chat).decode
    keys = list(expected)
    for begin in range(0, len(keys), 500):
        part = keys[begin : begin + 500]
        for key, record in zip(part, await storage.read_many(part), strict=True):
            count = 0 if record is None or isinstance(record, SessionError) else decode(record.value).count
            if count != expected[key]:
                raise WorkNotDoneError(f"{key} was counted up {expected[key]} times, but is stored with {count}")


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What was measured several times, as one."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}

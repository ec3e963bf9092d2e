"""`python -m benchmarks.growth`: how the cost of each step grows with what is stored, hot, large, or running."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

from benchmarks._growth_chats import Figure, some_of, updates
from benchmarks._growth_filled import SETTINGS, Filled, postgres, sqlite
from benchmarks._growth_steps import measured
from benchmarks._growth_workers import together
from chatsession import open_storage
from chatsession.storages import Storage
from chatsession.testing.servers.postgres import PostgresServer
from chatsession.testing.servers.redis import RedisServer

STORED = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
HOT = (1, 10, 100, 1_000, 10_000)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
PROCESSES = (1, 2, 3, 4)

Raw: TypeAlias = dict[str, dict[str, dict[str, float]]]
"""Storage, number, what was measured."""
Fresh: TypeAlias = Mapping[str, Callable[[], str]]
"""Storage, and what gives the URL of an empty one."""


async def stored(seconds: float, largest: int, folder: Path) -> Raw:
    """From few to many stored sessions, in one database that is filled more and more."""
    filling: dict[str, Callable[[Path], AbstractAsyncContextManager[Filled]]] = {
        "SQLite": sqlite,
        "PostgreSQL": postgres,
    }
    results: Raw = {}
    for name, fill in filling.items():
        results[name] = {}
        tally = Counter[str]()
        async with fill(folder) as filled:
            for sessions in (each for each in STORED if each <= largest):
                took = await filled.fill(sessions)
                steps = await measured(filled, tally, seconds)
                results[name][str(sessions)] = {"load_s": round(took, 2), "bytes": await filled.size(), **steps}
                _say(f"{name}, {sessions:,} stored: {results[name][str(sessions)]}")
    return results


async def hot(seconds: float, fresh: Fresh) -> Raw:
    """From one chat that all updates are of, to ten thousand."""

    def measure(storage: Storage, chats: int) -> Awaitable[Figure]:
        return updates(storage, some_of(chats, chats), 200, seconds, Counter())

    return await _of_each(fresh, HOT, measure)


async def sizes(seconds: float, fresh: Fresh) -> Raw:
    """From small sessions to large ones."""

    def measure(storage: Storage, size: int) -> Awaitable[Figure]:
        return updates(storage, some_of(100, size), 20, seconds, Counter(), size)

    return await _of_each(fresh, SIZES, measure)


async def processes(seconds: float, fresh: Fresh) -> Raw:
    """From one process to four, all with the same chats."""
    results: Raw = {}
    for name, url in fresh.items():
        at = url()
        results[name] = {str(count): (await together(at, count, seconds)).raw for count in PROCESSES}
        _say(f"{name}, processes: {results[name]}")
    return results


async def _of_each(
    fresh: Fresh, numbers: Sequence[int], measure: Callable[[Storage, int], Awaitable[Figure]]
) -> Raw:
    results: Raw = {}
    for name, url in fresh.items():
        results[name] = {}
        for number in numbers:
            async with open_storage(url()) as storage:
                results[name][str(number)] = (await measure(storage, number)).raw
            _say(f"{name}, {number:,}: {results[name][str(number)]}")
    return results


@contextmanager
def empty_storages(folder: Path) -> Generator[Fresh, None, None]:
    """Storages that are empty each time they are asked for."""
    with PostgresServer(SETTINGS) as database, RedisServer() as redis:
        made = 0

        def number() -> int:
            nonlocal made
            made += 1
            return made

        def emptied() -> str:
            redis.ask("FLUSHALL")
            return redis.url

        yield {
            "SQLite": lambda: f"sqlite:///{folder / f'{number()}.db'}",
            "Redis": emptied,
            "PostgreSQL": lambda: database.create_database(f"growth{number()}"),
        }


async def run(seconds: float, largest: int) -> dict[str, object]:
    """All of it."""
    begin = time.time()
    with tempfile.TemporaryDirectory(prefix="chatsession-growth-") as name:
        folder = Path(name)
        raw: dict[str, object] = {"stored": await stored(seconds, largest, folder)}
        with empty_storages(folder) as fresh:
            raw |= {"hot": await hot(seconds, fresh), "sizes": await sizes(seconds, fresh)}
            raw["processes"] = await processes(seconds, fresh)
    raw["conditions"] = {
        "begin": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(begin)),
        "took_s": round(time.time() - begin),
        "seconds": seconds,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load_average": [round(each, 1) for each in os.getloadavg()],
        "postgres": SETTINGS,
    }
    return raw


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> None:
    """Parse the arguments, measure, write down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement of updates")
    parser.add_argument("--largest", type=int, default=STORED[-1], help="number of stored sessions")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--report", action="store_true", help="only draw and write what an earlier run measured")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "growth.json"
    if not given.report:
        results.write_text(json.dumps(asyncio.run(run(given.seconds, given.largest)), indent=1) + "\n")
    from benchmarks._growth_report import report  # needs matplotlib

    report(json.loads(results.read_text()), given.out)


if __name__ == "__main__":
    main()

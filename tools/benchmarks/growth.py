"""`python -m tools.benchmarks.growth`: how the cost of each step grows with what is stored, hot, large, or running."""

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

from chatsession import open_storage
from tools.benchmarks._growth_chats import Figure, medians, some_of, updates
from tools.benchmarks._growth_filled import SETTINGS, Filled, fill, postgres, sqlite
from tools.benchmarks._growth_steps import measured
from tools.benchmarks._growth_workers import together
from tools.benchmarks._results import raw_text
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisServer

STORED = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
HOT = (1, 10, 100, 1_000, 10_000)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
PROCESSES = (1, 2, 3, 4)

Raw: TypeAlias = dict[str, dict[str, dict[str, float]]]
"""Storage, number, what was measured."""
Measure: TypeAlias = Callable[[str, int, float], Awaitable[Figure]]
"""Of an empty storage's URL, a number, and seconds."""
Fresh: TypeAlias = Mapping[str, Callable[[], str]]
"""Storage, and what gives the URL of an empty one."""


async def stored(rounds: int, seconds: float, largest: int, folder: Path) -> Raw:
    """From few to many stored sessions, all of these databases measured in turns."""
    filling: dict[str, Callable[[Path], AbstractAsyncContextManager[Callable[[int], Filled]]]] = {
        "SQLite": sqlite,
        "PostgreSQL": postgres,
    }
    results: Raw = {}
    for name, making in filling.items():
        async with making(folder) as make:
            all_filled = [make(sessions) for sessions in STORED if sessions <= largest]
            loaded: list[float] = []
            for filled in all_filled:
                loaded.append(await fill(filled))
                _say(f"{name}, {filled.sessions:,} sessions loaded in {loaded[-1]:.1f} s")
            measures = [[await measured(filled, seconds) for filled in all_filled] for _ in range(rounds)]
            results[name] = {
                str(filled.sessions): {"load_s": round(took, 2), "bytes": await filled.size(), **medians(rows)}
                for filled, took, rows in zip(all_filled, loaded, zip(*measures, strict=True), strict=True)
            }
    return results


async def hot(url: str, chats: int, seconds: float) -> Figure:
    """Updates of so many chats."""
    async with open_storage(url) as storage:
        return await updates(storage, some_of(chats), 200, seconds, Counter())


async def sizes(url: str, size: int, seconds: float) -> Figure:
    """Updates of sessions of so many bytes."""
    async with open_storage(url) as storage:
        return await updates(storage, some_of(100), 20, seconds, Counter(), size)


async def in_turns(what: Measure, numbers: Sequence[int], rounds: int, seconds: float, fresh: Fresh) -> Raw:
    """Each storage with each number, one after the other, several times."""
    measures: dict[tuple[str, int], list[dict[str, float]]] = {
        (name, number): [] for name in fresh for number in numbers
    }
    for _ in range(rounds):
        for (name, number), rows in measures.items():
            rows.append((await what(fresh[name](), number, seconds)).raw)
            _say(f"{name}, {number:,}: {rows[-1]}")
    return {name: {str(number): medians(measures[name, number]) for number in numbers} for name in fresh}


@contextmanager
def empty_storages(folder: Path) -> Generator[Fresh, None, None]:
    """Storages that are empty each time they are asked for."""
    with PostgresServer({name: f"'{value}'" for name, value in SETTINGS.items()}) as database, RedisServer() as redis:
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


async def run(rounds: int, seconds: float, largest: int, note: str) -> dict[str, object]:
    """All of it."""
    begin = time.time()
    with tempfile.TemporaryDirectory(prefix="chatsession-growth-") as name:
        folder = Path(name)
        raw: dict[str, object] = {"stored": await stored(rounds, seconds, largest, folder)}
        with empty_storages(folder) as fresh:
            raw["hot"] = await in_turns(hot, HOT, rounds, seconds, fresh)
            raw["sizes"] = await in_turns(sizes, SIZES, rounds, seconds, fresh)
            raw["processes"] = await in_turns(together, PROCESSES, rounds, seconds, fresh)
    raw["conditions"] = {
        "begin": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(begin)),
        "took_s": round(time.time() - begin),
        "rounds": rounds,
        "seconds": seconds,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load_average": [round(each, 1) for each in os.getloadavg()],
        "postgres": SETTINGS,
        "note": note,
    }
    return raw


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> None:
    """Parse the arguments, measure, write down."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="all is measured so often, in turns")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement of updates")
    parser.add_argument("--largest", type=int, default=STORED[-1], help="number of stored sessions")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--note", default="", help="what else the reader should know of the conditions")
    parser.add_argument("--report", action="store_true", help="only draw and write what an earlier run measured")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "growth.json"
    if not given.report:
        measures = asyncio.run(run(given.rounds, given.seconds, given.largest, given.note))
        results.write_text(raw_text(measures))
    from tools.benchmarks._growth_report import report

    report(json.loads(results.read_text()), given.out)


if __name__ == "__main__":
    main()

"""SQLite: 200 updates in flight over 1,000 chats, each committed before it counts as done."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path

import aiosqlite

from benchmarks._chats import IN_FLIGHT, counted_up, in_batches, key_of, sessions_in
from benchmarks._group import Goal, Group, versions
from benchmarks._measure import Contender, Running
from benchmarks._pizza import Pizza
from chatsession.storages.sqlite import SQLiteStorage

SYNCHRONOUS = "normal"
"""The same for all contenders."""

_TABLE = "CREATE TABLE IF NOT EXISTS pizzas (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_READ = "SELECT value FROM pizzas WHERE key = ?"
_WRITE = "INSERT INTO pizzas VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"

OURS = "chatsession, 200 in flight"
BARE = "sqlite3 module + msgspec, 200 a transaction"
STANDARD_LIBRARY = "sqlite3 module + json (untyped), 200 a transaction"
AIOSQLITE = "aiosqlite, a transaction an update"


@contextmanager
def group() -> Iterator[Group]:
    yield Group(
        f"SQLite, 300 bytes, 1,000 chats, synchronous={SYNCHRONOUS}, every commit awaited",
        [
            Contender(BARE, 40_000, lambda: bare(_by_msgspec)),
            Contender(STANDARD_LIBRARY, 20_000, lambda: bare(_by_standard_library)),
            Contender(OURS, 20_000, lambda: ours(IN_FLIGHT)),
            Contender("chatsession, 1 in flight", 2_000, lambda: ours(1)),
            Contender(AIOSQLITE, 2_000, with_aiosqlite),
        ],
        f"{versions('aiosqlite')}, SQLite {sqlite3.sqlite_version}",
        [
            Goal("speed against aiosqlite", OURS, AIOSQLITE, at_least=5),
            Goal("speed against the bare sqlite3 module with json", OURS, STANDARD_LIBRARY, at_least=0.4),
            Goal("speed against the bare sqlite3 module with msgspec", OURS, BARE, at_least=0.4),
        ],
    )


@asynccontextmanager
async def ours(flight: int) -> AsyncGenerator[Running]:
    with tempfile.TemporaryDirectory() as folder:
        storage = SQLiteStorage(Path(folder, "bot.db"), synchronous=SYNCHRONOUS)
        async with sessions_in(storage, flight) as running:
            yield running


@asynccontextmanager
async def with_aiosqlite() -> AsyncGenerator[Running]:
    """aiosqlite, one transaction an update; without locks it must take the updates one after another."""
    with tempfile.TemporaryDirectory() as folder:
        async with aiosqlite.connect(Path(folder, "bot.db"), isolation_level=None) as connection:
            for statement in ("PRAGMA journal_mode = WAL", f"PRAGMA synchronous = {SYNCHRONOUS}", _TABLE):
                await connection.execute(statement)

            async def run(updates: int) -> None:
                for number in range(updates):
                    key = key_of(number)
                    await connection.execute("BEGIN IMMEDIATE")
                    cursor = await connection.execute(_READ, (key,))
                    await connection.execute(_WRITE, (key, _by_msgspec(await cursor.fetchone())))
                    await connection.execute("COMMIT")

            async def counted() -> int:
                cursor = await connection.execute("SELECT sum(value ->> 'count') FROM pizzas")
                (total,) = await cursor.fetchone()
                return total or 0

            yield Running(run, counted)


@asynccontextmanager
async def bare(count_up: Callable[[tuple[str] | None], str]) -> AsyncGenerator[Running]:
    """The floor: the sqlite3 module on the same thread, 200 updates a transaction, no locks."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder, "bot.db"), isolation_level=None)
        for statement in ("PRAGMA journal_mode = WAL", f"PRAGMA synchronous = {SYNCHRONOUS}", _TABLE):
            connection.execute(statement)

        async def update(keys: list[str]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            for key in keys:
                connection.execute(_WRITE, (key, count_up(connection.execute(_READ, (key,)).fetchone())))
            connection.execute("COMMIT")

        async def counted() -> int:
            return connection.execute("SELECT sum(value ->> 'count') FROM pizzas").fetchone()[0] or 0

        yield Running(lambda updates: in_batches(updates, update), counted)
        connection.close()


def _by_msgspec(row: tuple[str] | None) -> str:
    return counted_up(row[0] if row else None).decode()


def _by_standard_library(row: tuple[str] | None) -> str:
    pizza = json.loads(row[0]) if row else asdict(Pizza())
    pizza["count"] += 1
    return json.dumps(pizza)

"""SQLite: 200 updates in flight over 1,000 chats, each committed before it counts as done."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path

import aiosqlite
import uvloop

from chatsession.storages.sqlite import SQLiteStorage
from tools.benchmarks._chats import IN_FLIGHT, counted_up, in_batches, key_of, sessions_in
from tools.benchmarks._group import Goal, Group, no_slower, versions
from tools.benchmarks._measure import Contender, Done, Running, in_flight
from tools.benchmarks._meters import sqlite_meter
from tools.benchmarks._pizza import Pizza

SYNCHRONOUS = "normal"
"""The same for all contenders."""

TABLE = "CREATE TABLE IF NOT EXISTS pizzas (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
READ = "SELECT value FROM pizzas WHERE key = ?"
WRITE = "INSERT INTO pizzas VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_SETTINGS = ("PRAGMA journal_mode = WAL", f"PRAGMA synchronous = {SYNCHRONOUS}", TABLE)

OURS, OURS_ALONE = "chatsession, 200 in flight", "chatsession, 1 in flight"
BARE = "sqlite3 module + msgspec, 200 a transaction"
STANDARD_LIBRARY = "sqlite3 module + json (untyped), 200 a transaction"
BARE_ALONE = "sqlite3 module + msgspec, a transaction an update"
AIOSQLITE = "aiosqlite, a transaction an update"


@contextmanager
def group() -> Generator[Group]:
    yield Group(
        f"SQLite, 300 bytes, 1,000 chats, synchronous={SYNCHRONOUS}, every commit awaited",
        [
            Contender(BARE, lambda: bare(_by_msgspec), "floor", step=IN_FLIGHT),
            Contender(STANDARD_LIBRARY, lambda: bare(_by_standard_library), "floor", step=IN_FLIGHT),
            Contender(BARE_ALONE, lambda: bare(_by_msgspec, 1), "floor"),
            Contender(OURS, lambda: ours(IN_FLIGHT), "ours"),
            Contender(f"{OURS}, uvloop", lambda: ours(IN_FLIGHT), "ours", loop=uvloop.new_event_loop),
            Contender(OURS_ALONE, lambda: ours(1), "ours"),
            Contender(AIOSQLITE, with_aiosqlite),
        ],
        f"{versions('aiosqlite', 'msgspec', 'uvloop')}, SQLite {sqlite3.sqlite_version}",
        [
            Goal(
                "speed against the bare sqlite3 module with 200 updates a transaction, the same codec (msgspec)",
                OURS,
                BARE,
                at_least=0.6,
                why="the bare module reads and writes on the caller's thread, locks nothing, and lets nothing else run "
                "meanwhile; sessions are handed to a thread and back, locked, fenced and compared",
            ),
            Goal("speed against the same with json, untyped", OURS, STANDARD_LIBRARY, at_least=0.6),
            Goal("speed against aiosqlite", OURS, AIOSQLITE, at_least=5),
            no_slower(OURS_ALONE, AIOSQLITE, "one update alone pays for the lock and the commit, a transaction each"),
        ],
        times=3,
    )


@asynccontextmanager
async def ours(flight: int) -> AsyncGenerator[Running]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bot.db")
        async with sessions_in(SQLiteStorage(path, synchronous=SYNCHRONOUS), flight, sqlite_meter(path)) as running:
            yield running


@asynccontextmanager
async def with_aiosqlite() -> AsyncGenerator[Running]:
    """aiosqlite, one transaction an update; without locks it must take the updates one after another."""
    async with opened_by_aiosqlite() as (connection, path):

        async def handle(number: int) -> None:
            await count_up(connection, key_of(number))

        yield Running(lambda updates: in_flight(1, updates, handle), lambda: total_in(connection), sqlite_meter(path))


@asynccontextmanager
async def opened_by_aiosqlite() -> AsyncGenerator[tuple[aiosqlite.Connection, Path]]:
    """A new database with the table of pizzas."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bot.db")
        async with aiosqlite.connect(path, isolation_level=None) as connection:
            for statement in _SETTINGS:
                await connection.execute(statement)
            yield connection, path


async def count_up(connection: aiosqlite.Connection, key: str) -> None:
    """One update in a transaction of its own."""
    await connection.execute("BEGIN IMMEDIATE")
    cursor = await connection.execute(READ, (key,))
    await connection.execute(WRITE, (key, _by_msgspec(await cursor.fetchone())))
    await connection.execute("COMMIT")


async def total_in(connection: aiosqlite.Connection) -> int:
    """How many updates have been counted in all."""
    cursor = await connection.execute("SELECT sum(value ->> 'count') FROM pizzas")
    row = await cursor.fetchone()
    return int(row[0] or 0) if row else 0


@asynccontextmanager
async def bare(count_up: Callable[[tuple[str] | None], str], batch: int = IN_FLIGHT) -> AsyncGenerator[Running]:
    """The floor: the sqlite3 module on the same thread, 200 updates (or one) a transaction, no locks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bot.db")
        connection = sqlite3.connect(path, isolation_level=None)
        for statement in _SETTINGS:
            connection.execute(statement)

        async def update(keys: list[str]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            for key in keys:
                connection.execute(WRITE, (key, count_up(connection.execute(READ, (key,)).fetchone())))
            connection.execute("COMMIT")

        async def run(updates: int) -> Done | None:
            if batch > 1:
                return await in_batches(updates, update)
            return await in_flight(1, updates, lambda number: update([key_of(number)]))

        async def counted() -> int:
            return connection.execute("SELECT sum(value ->> 'count') FROM pizzas").fetchone()[0] or 0

        yield Running(run, counted, sqlite_meter(path))
        connection.close()


def _by_msgspec(row: object) -> str:
    return counted_up(row[0] if row else None).decode()  # type: ignore[index] - a row of either driver


def _by_standard_library(row: tuple[str] | None) -> str:
    pizza = json.loads(row[0]) if row else asdict(Pizza())
    pizza["count"] += 1
    return json.dumps(pizza)

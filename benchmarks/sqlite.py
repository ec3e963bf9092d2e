"""SQLite: 200 updates in flight over 1,000 chats, each committed before it counts as done."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import msgspec

from benchmarks._measure import Contender, Running, in_flight
from benchmarks._pizza import Pizza
from chatsession import SessionManager
from chatsession.storages.sqlite import SQLiteStorage

CHATS = 1_000
IN_FLIGHT = 200
SYNCHRONOUS = "normal"
"""The same for all contenders."""

_TABLE = "CREATE TABLE IF NOT EXISTS pizzas (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_READ = "SELECT value FROM pizzas WHERE key = ?"
_WRITE = "INSERT INTO pizzas VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_decode = msgspec.json.Decoder(Pizza).decode
_encode = msgspec.json.Encoder().encode


def _counted_up(row: tuple[str] | None) -> str:
    pizza = _decode(row[0]) if row else Pizza()
    pizza.count += 1
    return _encode(pizza).decode()


@asynccontextmanager
async def ours(flight: int = IN_FLIGHT) -> AsyncGenerator[Running]:
    """chatsession: exclusive, with locks that hold across processes, and fencing."""
    with tempfile.TemporaryDirectory() as folder:
        storage = SQLiteStorage(Path(folder, "bot.db"), synchronous=SYNCHRONOUS)
        async with SessionManager(Pizza, storage=storage) as sessions:

            async def handle(number: int) -> None:
                async with sessions.open(number % CHATS) as s:
                    s.data.count += 1

            async def counted() -> int:
                return sum([pizza.count async for _, pizza in sessions.entries()])

            yield Running(lambda updates: in_flight(flight, updates, handle), counted)


@asynccontextmanager
async def with_aiosqlite() -> AsyncGenerator[Running]:
    """aiosqlite, one transaction an update; without locks it must take the updates one after another."""
    with tempfile.TemporaryDirectory() as folder:
        async with aiosqlite.connect(Path(folder, "bot.db"), isolation_level=None) as connection:
            for statement in ("PRAGMA journal_mode = WAL", f"PRAGMA synchronous = {SYNCHRONOUS}", _TABLE):
                await connection.execute(statement)

            async def run(updates: int) -> None:
                for number in range(updates):
                    key = str(number % CHATS)
                    await connection.execute("BEGIN IMMEDIATE")
                    cursor = await connection.execute(_READ, (key,))
                    await connection.execute(_WRITE, (key, _counted_up(await cursor.fetchone())))
                    await connection.execute("COMMIT")

            async def counted() -> int:
                cursor = await connection.execute("SELECT sum(value ->> 'count') FROM pizzas")
                (total,) = await cursor.fetchone()
                return total or 0

            yield Running(run, counted)


@asynccontextmanager
async def bare(per_transaction: int = IN_FLIGHT) -> AsyncGenerator[Running]:
    """The floor: the sqlite3 module on the same thread, 200 updates a transaction, no locks, no asyncio."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder, "bot.db"), isolation_level=None)
        for statement in ("PRAGMA journal_mode = WAL", f"PRAGMA synchronous = {SYNCHRONOUS}", _TABLE):
            connection.execute(statement)

        async def run(updates: int) -> None:
            for first in range(0, updates, per_transaction):
                connection.execute("BEGIN IMMEDIATE")
                for number in range(first, min(first + per_transaction, updates)):
                    key = str(number % CHATS)
                    connection.execute(_WRITE, (key, _counted_up(connection.execute(_READ, (key,)).fetchone())))
                connection.execute("COMMIT")

        async def counted() -> int:
            return connection.execute("SELECT sum(value ->> 'count') FROM pizzas").fetchone()[0] or 0

        yield Running(run, counted)
        connection.close()


def contenders() -> list[Contender]:
    """All of them, the floor first."""
    return [
        Contender("sqlite3 module, 200 a transaction", 40_000, bare),
        Contender("chatsession, 200 in flight", 20_000, ours),
        Contender("chatsession, 1 in flight", 2_000, lambda: ours(1)),
        Contender("aiosqlite, a transaction an update", 2_000, with_aiosqlite),
    ]

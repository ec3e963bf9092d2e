"""Going through all that is stored: sessions a second, against the database's own way to read them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from chatsession import SessionManager
from chatsession.copying import copy
from chatsession.storages import Action, Change, Storage
from chatsession.storages.postgres import PostgresStorage
from chatsession.storages.sqlite import SQLiteStorage
from tools.benchmarks._group import Group, versions
from tools.benchmarks._measure import Contender, Running
from tools.benchmarks._pizza import Pizza
from tools.servers.postgres import PostgresServer

STORED = 20_000

Setup = Callable[[], AbstractAsyncContextManager[Running]]
Walk = Callable[[Storage, Path], Awaitable[int]]
"""Goes through all sessions, and returns how many there were."""


async def keys(storage: Storage, _: Path) -> int:
    sessions = SessionManager(Pizza, storage=storage)
    return len([key async for key in sessions.keys()])  # noqa: SIM118 - no dict's


async def entries(storage: Storage, _: Path) -> int:
    sessions = SessionManager(Pizza, storage=storage)
    return len([pizza async for _, pizza in sessions.entries()])


async def copied(storage: Storage, folder: Path) -> int:
    target = folder / "copy.db"
    target.unlink(missing_ok=True)
    async with SQLiteStorage(target) as other:
        return (await copy(storage, other)).written


async def rewritten(storage: Storage, _: Path) -> int:
    async with SessionManager(Pizza, storage=storage, migrations={1: lambda old: old}) as sessions:
        return (await sessions.rewrite(dry_run=True)).rewritten


async def bare(_: Storage, folder: Path) -> int:
    connection = sqlite3.connect(folder / "bot.db")
    table = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%sessions'"
    ).fetchone()
    decode = msgspec.json.Decoder(Pizza).decode
    found = [decode(value) for (value,) in connection.execute(f"SELECT value FROM {table[0]}")]
    connection.close()
    return len(found)


@asynccontextmanager
async def walking(walk: Walk, storage: Storage, folder: Path) -> AsyncGenerator[Running]:
    """A round is to walk through all as often as it takes to have seen so many."""
    seen = 0

    async def run(updates: int) -> None:
        nonlocal seen
        for _ in range(updates // STORED):
            seen += await walk(storage, folder)

    async def counted() -> int:
        return seen

    async with storage:
        await _fill(storage)
        yield Running(run, counted)


async def _fill(storage: Storage) -> None:
    if (await storage.scan_keys("", None, 1))[0]:
        return
    value = msgspec.json.encode(Pizza())
    for start in range(0, STORED, 500):
        await storage.commit_many([Change(f"chat:{n}", Action.PUT, value) for n in range(start, start + 500)])


@contextmanager
def group() -> Generator[Group]:
    with tempfile.TemporaryDirectory() as name, PostgresServer() as server:
        folder = Path(name)

        def sqlite(walk: Walk) -> Setup:
            return lambda: walking(walk, SQLiteStorage(folder / "bot.db"), folder)

        def postgres(walk: Walk) -> Setup:
            return lambda: walking(walk, PostgresStorage(server.url), folder)

        work = {"keys()": keys, "entries()": entries, "copy to SQLite": copied, "rewrite, dry run": rewritten}
        contenders = [Contender("sqlite3 + msgspec, SELECT of all", sqlite(bare), "floor", step=STORED, warm=0)]
        for what, walk in work.items():
            contenders.append(Contender(f"SQLite, {what}", sqlite(walk), "ours", step=STORED, warm=0))
            contenders.append(Contender(f"PostgreSQL, {what}", postgres(walk), "ours", step=STORED, warm=0))
        yield Group(f"Going through {STORED:,} sessions of 300 bytes", contenders, versions("msgspec", "asyncpg"))

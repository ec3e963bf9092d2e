"""Storages that are filled with millions of sessions by the fastest way their database has, and its bare statements."""

from __future__ import annotations

import random
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import asyncpg

from benchmarks._growth_chats import SMALL, key_of, stored
from benchmarks._measure import WorkNotDoneError
from chatsession.storages import Storage
from chatsession.storages.postgres import PostgresStorage
from chatsession.storages.sqlite import SQLiteStorage
from chatsession.testing.servers.postgres import PostgresServer

_A_YEAR = 365 * 24 * 3600
_NEVER_SWEEP = 24 * 3600.0
_ROWS = 10_000

SETTINGS = {"shared_buffers": "'256MB'", "max_wal_size": "'8GB'"}
"""Of PostgreSQL; the rest is as it comes, so each commit is flushed."""


class Filled(ABC):
    """A storage, and the database under it."""

    def __init__(self) -> None:
        self.sessions = 0

    @abstractmethod
    def storage(self) -> Storage:
        """A new one, on the data there are; it does not sweep by itself."""

    async def fill(self, sessions: int) -> float:
        """Bring it to so many sessions, each second with a time to live of a year; returns the seconds it took."""
        begin = time.perf_counter()
        await self._load(self.sessions, sessions)
        took = time.perf_counter() - begin
        self.sessions = sessions
        if (there := await self.count()) != sessions:
            raise WorkNotDoneError(f"{there:,} of {sessions:,} sessions were stored")
        return took

    @abstractmethod
    async def _load(self, begin: int, end: int) -> None:
        """Store the sessions of these numbers, which are not there yet."""

    @abstractmethod
    async def count(self) -> int:
        """How many sessions there are, by the database's own word."""

    @abstractmethod
    async def size(self) -> int:
        """Bytes on the disk."""

    @abstractmethod
    async def look_up(self, key: str) -> None:
        """Read one by a bare statement: what the index costs."""

    @abstractmethod
    async def write(self, key: str) -> None:
        """Read and write one by bare statements, as it is, and commit."""


class FilledSQLite(Filled):
    """One file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._path = path
        self._connection = connection

    def storage(self) -> Storage:
        return SQLiteStorage(self._path, sweep_interval=_NEVER_SWEEP)

    async def _load(self, begin: int, end: int) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO sessions (key, value, version, expires_at) VALUES (?, ?, 0, ?)", _rows(begin, end)
        )
        self._connection.execute("COMMIT")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    async def count(self) -> int:
        return self._connection.execute("SELECT count(*) FROM sessions").fetchone()[0]

    async def size(self) -> int:
        return self._path.stat().st_size

    async def look_up(self, key: str) -> None:
        assert self._connection.execute("SELECT value FROM sessions WHERE key = ?", (key,)).fetchone()

    async def write(self, key: str) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        (value,) = self._connection.execute("SELECT value FROM sessions WHERE key = ?", (key,)).fetchone()
        self._connection.execute("UPDATE sessions SET value = ? WHERE key = ?", (value, key))
        self._connection.execute("COMMIT")


class FilledPostgres(Filled):
    """One table."""

    def __init__(self, server: PostgresServer, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        super().__init__()
        self._server = server
        self._connection = connection

    def storage(self) -> Storage:
        return PostgresStorage(self._server.url, sweep_interval=_NEVER_SWEEP)

    async def _load(self, begin: int, end: int) -> None:
        await self._connection.copy_to_table(
            "chat_sessions", source=_lines(begin, end), columns=["key", "data", "version", "expires_at"]
        )
        await self._connection.execute("VACUUM (ANALYZE) chat_sessions")
        await self._connection.execute("CHECKPOINT")

    async def count(self) -> int:
        return await self._connection.fetchval("SELECT count(*) FROM chat_sessions")

    async def size(self) -> int:
        return await self._connection.fetchval("SELECT pg_total_relation_size('chat_sessions')")

    async def look_up(self, key: str) -> None:
        assert await self._connection.fetchval("SELECT data FROM chat_sessions WHERE key = $1", key)

    async def write(self, key: str) -> None:
        async with self._connection.transaction():
            data = await self._connection.fetchval("SELECT data FROM chat_sessions WHERE key = $1 FOR UPDATE", key)
            await self._connection.execute("UPDATE chat_sessions SET data = $1 WHERE key = $2", data, key)


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncGenerator[Filled]:
    """An empty one."""
    path = folder / "growth.db"
    async with SQLiteStorage(path):
        pass  # now it has its tables
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = normal")
        yield FilledSQLite(path, connection)


@asynccontextmanager
async def postgres(_: Path) -> AsyncGenerator[Filled]:
    """An empty one."""
    with PostgresServer(SETTINGS) as server:
        async with PostgresStorage(server.url):
            pass
        connection = await asyncpg.connect(server.url)
        try:
            yield FilledPostgres(server, connection)
        finally:
            await connection.close()


def some_keys(sessions: int, count: int, seed: int) -> list[str]:
    """Keys of stored sessions, at random."""
    chosen = random.Random(seed)
    return [key_of(chosen.randrange(sessions)) for _ in range(count)]


def _rows(begin: int, end: int) -> Iterator[tuple[str, str, float | None]]:
    value, until = stored(SMALL).decode(), time.time() + _A_YEAR
    return ((key_of(number), value, None if number % 2 else until + number) for number in range(begin, end))


async def _lines(begin: int, end: int) -> AsyncIterator[bytes]:
    value, until = stored(SMALL).decode(), time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(time.time() + _A_YEAR))
    with_end, without = f"\t{value}\t0\t{until}\n", f"\t{value}\t0\t\\N\n"
    for first in range(begin, end, _ROWS):
        numbers = range(first, min(first + _ROWS, end))
        yield "".join([key_of(number) + (without if number % 2 else with_end) for number in numbers]).encode()

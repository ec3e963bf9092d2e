"""Storages that are filled with millions of sessions by the fastest way their database has, and its bare statements."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportReturnType=false
# (asyncpg has no annotations)

from __future__ import annotations

import random
import sqlite3
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it has none

from chatsession.storages import Storage
from chatsession.storages.postgres import PostgresStorage
from chatsession.storages.sqlite import SQLiteStorage
from tools.benchmarks._growth_chats import SMALL, key_of, stored
from tools.benchmarks._measure import WorkNotDoneError
from tools.servers.postgres import PostgresServer

_A_YEAR = 365 * 24 * 3600
_NEVER_SWEEP = 24 * 3600.0
_ROWS = 10_000

SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "8GB", "wal_level": "minimal", "max_wal_senders": "0"}
"""Of PostgreSQL; the rest is as it comes, so each commit is flushed. A bulk load needs no log of its own."""


class Filled(ABC):
    """So many sessions, each second one with a time to live of a year, and the database under them."""

    def __init__(self, sessions: int) -> None:
        self.sessions = sessions
        self.tally = Counter[str]()
        """How often each session was counted up."""

    @abstractmethod
    def storage(self) -> Storage:
        """A new one, on the data there are; it does not sweep by itself."""

    @abstractmethod
    async def load(self) -> None:
        """Store the sessions, as fast as the database can."""

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
    async def page(self, start: str, limit: int) -> None:
        """Read so many in the order of the index, by a bare statement."""

    @abstractmethod
    async def write(self, keys: Sequence[str]) -> None:
        """Read and write these by bare statements, as they are, in one transaction."""


class FilledSQLite(Filled):
    """One file."""

    def __init__(self, sessions: int, path: Path) -> None:
        super().__init__(sessions)
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None)

    def storage(self) -> Storage:
        return SQLiteStorage(self._path, sweep_interval=_NEVER_SWEEP)

    async def load(self) -> None:
        async with self.storage():
            pass  # now it has its tables
        pragmas = ("journal_mode = delete", "journal_mode = off", "synchronous = off")
        for pragma in pragmas:
            self._connection.execute(f"PRAGMA {pragma}")
        given = {"sessions": self.sessions, "value": stored(SMALL).decode(), "until": time.time() + _A_YEAR}
        self._connection.execute(_LOAD, given)
        for pragma in ("journal_mode = wal", "synchronous = normal"):
            self._connection.execute(f"PRAGMA {pragma}")

    async def count(self) -> int:
        return self._connection.execute("SELECT count(*) FROM sessions").fetchone()[0]

    async def size(self) -> int:
        return self._path.stat().st_size

    async def look_up(self, key: str) -> None:
        assert self._connection.execute("SELECT value FROM sessions WHERE key = ?", (key,)).fetchone()

    async def page(self, start: str, limit: int) -> None:
        sql = "SELECT key, value, version, expires_at FROM sessions WHERE key > ? ORDER BY key LIMIT ?"
        self._connection.execute(sql, (start, limit)).fetchall()

    async def write(self, keys: Sequence[str]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for key in keys:
            (value,) = self._connection.execute("SELECT value FROM sessions WHERE key = ?", (key,)).fetchone()
            self._connection.execute("UPDATE sessions SET value = ? WHERE key = ?", (value, key))
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


_LOAD = """
WITH RECURSIVE numbers(n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM numbers WHERE n < :sessions - 1)
INSERT INTO sessions (key, value, version, expires_at)
SELECT printf('chat:%08d', n), :value, 0, CASE WHEN n % 2 THEN NULL ELSE :until + n END FROM numbers
"""


class FilledPostgres(Filled):
    """One table."""

    def __init__(self, sessions: int, url: str, connection: asyncpg.Connection) -> None:
        super().__init__(sessions)
        self._url = url
        self._table = f"growth_{sessions}"
        self._connection = connection

    def storage(self) -> Storage:
        return PostgresStorage(self._url, table=self._table, sweep_interval=_NEVER_SWEEP)

    async def load(self) -> None:
        async with self.storage():
            pass  # now it has its tables
        async with self._connection.transaction():  # what is made or emptied in here needs no log
            await self._connection.execute(f"TRUNCATE {self._table}")
            columns = ["key", "data", "version", "expires_at"]
            await self._connection.copy_to_table(
                self._table, source=_lines(self.sessions), columns=columns, freeze=True
            )
        await self._connection.execute(f"VACUUM (ANALYZE) {self._table}")

    async def count(self) -> int:
        return await self._connection.fetchval(f"SELECT count(*) FROM {self._table}")

    async def size(self) -> int:
        return await self._connection.fetchval(f"SELECT pg_total_relation_size('{self._table}')")

    async def look_up(self, key: str) -> None:
        assert await self._connection.fetchval(f"SELECT data FROM {self._table} WHERE key = $1", key)

    async def page(self, start: str, limit: int) -> None:
        sql = f"SELECT key, data, version, expires_at FROM {self._table} WHERE key >= $1 ORDER BY key LIMIT $2"
        await self._connection.fetch(sql, start, limit)

    async def write(self, keys: Sequence[str]) -> None:
        async with self._connection.transaction():
            rows = await self._connection.fetch(
                f"SELECT key, data FROM {self._table} WHERE key = ANY ($1) ORDER BY key FOR UPDATE", keys
            )
            await self._connection.execute(
                f"UPDATE {self._table} AS t SET data = n.data FROM unnest($1::text[], $2::jsonb[]) AS n (key, data) "
                "WHERE t.key = n.key",
                [row["key"] for row in rows],
                [row["data"] for row in rows],
            )


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncGenerator[Callable[[int], Filled]]:
    """A file for each number of sessions."""
    with ExitStack() as files:

        def make(sessions: int) -> Filled:
            filled = FilledSQLite(sessions, folder / f"growth-{sessions}.db")
            files.callback(filled.close)
            return filled

        yield make


@asynccontextmanager
async def postgres(_: Path) -> AsyncGenerator[Callable[[int], Filled]]:
    """A table for each number of sessions."""
    with PostgresServer({name: f"'{value}'" for name, value in SETTINGS.items()}) as server:
        connection = await asyncpg.connect(server.url)
        try:
            yield lambda sessions: FilledPostgres(sessions, server.url, connection)
        finally:
            await connection.close()


async def fill(filled: Filled) -> float:
    """Store its sessions; returns the seconds it took. Raises `WorkNotDoneError`: they are not there."""
    begin = time.perf_counter()
    await filled.load()
    took = time.perf_counter() - begin
    if (there := await filled.count()) != filled.sessions:
        raise WorkNotDoneError(f"{there:,} of {filled.sessions:,} sessions were stored")
    return took


def some_keys(sessions: int, count: int, seed: int) -> list[str]:
    """Keys of stored sessions, at random."""
    chosen = random.Random(seed)
    return [key_of(chosen.randrange(sessions)) for _ in range(count)]


async def _lines(sessions: int) -> AsyncIterator[bytes]:
    value, until = stored(SMALL).decode(), time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(time.time() + _A_YEAR))
    with_end, without = f"\t{value}\t0\t{until}\n", f"\t{value}\t0\t\\N\n"
    for first in range(0, sessions, _ROWS):
        numbers = range(first, min(first + _ROWS, sessions))
        yield "".join([key_of(number) + (without if number % 2 else with_end) for number in numbers]).encode()

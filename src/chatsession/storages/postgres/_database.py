"""The database: its connections, its tables, its clock, and wake-ups from other processes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import cast
from urllib.parse import urlsplit

from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages._shared.clock import ServerClock
from chatsession.storages._shared.retries import retried
from chatsession.storages.postgres._calls import Call, Calls, Result
from chatsession.storages.postgres._connection import BorrowedConnections, OwnConnections, borrowed, close_quickly
from chatsession.storages.postgres._driver import (
    Connection,
    Pool,
    Row,
    belongs_to_running_loop,
    caches_statements,
)
from chatsession.storages.postgres._errors import as_storage_error
from chatsession.storages.postgres._hosts import Hosts
from chatsession.storages.postgres._schema import Schema
from chatsession.storages.postgres._server import check_server, is_pooled
from chatsession.storages.postgres._wakeups import Wakeups

_log = logging.getLogger("chatsession")

_BETWEEN_TRIES = 0.2
"""Seconds between tries to open."""
_PREPARED_STATEMENTS = 100
_SMALLEST_POOL_TO_LISTEN = 3
_SECONDS_TO_RELEASE = 5
"""Without a bound, the storage would not close while the server does not answer."""


class Database:
    """One database, by its URL or in the user's own pool.

    Args:
        source: the URL, or the pool.
        schema: the tables and functions that must be in it.
        most: the most connections that are opened.
        retry_for: the most seconds that a call takes, with all attempts.
        pooler: whether connections go through a pooler; `None`: detect it.
    """

    def __init__(self, source: str | Pool, schema: Schema, most: int, retry_for: float, pooler: bool | None) -> None:
        self._source = source
        self._hosts = Hosts(source if isinstance(source, str) else "", retry_for)
        self._schema = schema
        self._most = most
        self._retry_for = retry_for
        self._pooler = pooler
        self._connections: OwnConnections | BorrowedConnections | None = None
        self._calls: Calls | None = None
        self.wakeups: Wakeups | None = None
        """`None`: waiters poll."""
        self.clock = ServerClock()
        """The server's, by which sessions expire."""
        self._pool_is_inherited = False

    def __str__(self) -> str:
        if not isinstance(self._source, str):
            return "in the pool given"
        try:
            parts = urlsplit(self._source)
        except ValueError:
            return "at the URL given"
        if "@" in parts.path + parts.query + parts.fragment:  # part of an unquoted password may be anywhere
            return "at the URL given"
        return f"at {parts.netloc.rpartition('@')[2]}{parts.path}"

    async def open(self, *, create: bool) -> None:
        """Connect, and create or check the tables; repeated while the server is away. Raises `StorageError`."""
        self._check_pool()
        end = time.monotonic() + self._retry_for
        while True:
            try:
                return await self._open(create=create, seconds=end - time.monotonic())
            except StorageUnavailableError:
                if time.monotonic() + _BETWEEN_TRIES >= end:
                    raise
            retried("PostgreSQL")
            await asyncio.sleep(_BETWEEN_TRIES)

    async def _open(self, *, create: bool, seconds: float) -> None:
        first = self._connections_with(statements=0)  # until it is known that there is no pooler
        try:
            async with asyncio.timeout(seconds), borrowed(first) as connection:
                await check_server(connection)
                await self._set_clock(connection)
                await self._schema.prepare(connection, create=create)
                pooled = await is_pooled(connection) if self._pooler is None else self._pooler
                if pooled and caches_statements(connection):
                    _log.warning(
                        "the connections to PostgreSQL go through a pooler; make the asyncpg pool with "
                        "statement_cache_size=0, unless the pooler supports prepared statements"
                    )
        except Exception as error:
            raise as_storage_error(error) from None
        finally:
            await first.close()
        self._connections = self._connections_with(statements=0 if pooled else _PREPARED_STATEMENTS)
        self._calls = Calls(self._connections, self._retry_for)
        self.wakeups = None if pooled else self._make_wakeups()

    async def close(self) -> None:
        """Close what was opened here."""
        if self.wakeups is not None:
            await self.wakeups.stop()
        if self._connections is not None:
            await self._connections.close()
        self.wakeups = self._calls = self._connections = None

    def forget(self, *, inherited: bool) -> None:
        """As `Storage.forget`."""
        if self.wakeups is not None:
            self.wakeups.forget(inherited=inherited)
        if self._connections is not None:
            self._connections.forget(inherited=inherited)
        self.wakeups = self._calls = self._connections = None
        self.clock = ServerClock()
        self._pool_is_inherited |= inherited

    async def run(self, call: Call[Result]) -> Result:
        """Make a call that may be repeated; see `Calls.run`."""
        if self._calls is None:
            raise StorageError("the storage is not open; use it inside `async with storage`, or call open() first")
        return await self._calls.run(self._after_setting_clock(call) if self.clock.is_due() else call)

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """Run a statement that may be repeated, and return its rows; `{…}` in it are names of the schema."""
        filled = self._schema.sql(sql)

        async def call(connection: Connection, _again: bool) -> Sequence[Row]:
            return await connection.fetch(filled, *arguments)

        return await self.run(call)

    def _after_setting_clock(self, call: Call[Result]) -> Call[Result]:
        async def both(connection: Connection, again: bool) -> Result:
            await self._set_clock(connection)
            return await call(connection, again)

        return both

    async def _set_clock(self, connection: Connection) -> None:
        asked_at = time.monotonic()
        answer = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        self.clock.set(cast("float", answer), asked_at)

    def _check_pool(self) -> None:
        """Raises `StorageError` if the user's pool cannot be used here."""
        if isinstance(self._source, str):
            return
        if self._pool_is_inherited or not belongs_to_running_loop(self._source):
            raise StorageError(
                "the asyncpg pool of this storage was made in another event loop or process; make a pool (and a "
                "storage) in each, or give PostgresStorage a URL"
            )

    def _connections_with(self, statements: int) -> OwnConnections | BorrowedConnections:
        if not isinstance(self._source, str):
            return BorrowedConnections(self._source)
        return OwnConnections(partial(self._hosts.connect, statements=statements), self._most)

    def _make_wakeups(self) -> Wakeups | None:
        source = self._source
        if isinstance(source, str):
            return Wakeups(self._schema.channel, partial(self._hosts.connect, statements=0), close_quickly)
        if source.get_max_size() < _SMALLEST_POOL_TO_LISTEN:  # calls need the connections
            return None
        return Wakeups(self._schema.channel, source.acquire, partial(source.release, timeout=_SECONDS_TO_RELEASE))

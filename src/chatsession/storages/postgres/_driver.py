"""What this storage needs of asyncpg, which has no types: the only module that takes them on trust."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeAlias, cast

try:
    import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it has none
except ImportError as error:
    raise ImportError("sessions in PostgreSQL need asyncpg: pip install 'chatsession[postgres]'") from error

PostgresError = asyncpg.PostgresError
InterfaceError = asyncpg.InterfaceError
InternalClientError = asyncpg.InternalClientError

Row: TypeAlias = tuple[object, ...]
OnNotify: TypeAlias = Callable[[object, int, str, str], None]

_inherited: list[object] = []
"""Connections of the parent process, kept so that nothing finalizes them here."""


class Connection(Protocol):
    """`asyncpg.Connection`, or a pool's stand-in for one."""

    async def fetch(self, query: str, *args: object) -> Sequence[Row]: ...
    async def fetchval(self, query: str, *args: object) -> object: ...
    async def execute(self, query: str) -> str: ...
    async def add_listener(self, channel: str, callback: OnNotify) -> None: ...
    async def remove_listener(self, channel: str, callback: OnNotify) -> None: ...
    async def close(self, *, timeout: float | None = None) -> None: ...
    def terminate(self) -> None: ...
    def is_closed(self) -> bool: ...
    def get_server_pid(self) -> int: ...
    def get_server_version(self) -> tuple[object, ...]: ...


class Pool(Protocol):
    """`asyncpg.Pool`."""

    def acquire(self) -> Awaitable[Connection]: ...
    def release(self, connection: Connection, /, *, timeout: float | None = None) -> Awaitable[object]: ...
    def get_max_size(self) -> int: ...
    async def expire_connections(self) -> None: ...


async def connect(url: str, *, statements: int, timeout: float) -> Connection:
    """One connection; `statements`: how many prepared statements it keeps."""
    opened = cast("Callable[..., Awaitable[Connection]]", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]
    named = {} if "application_name" in url else {"server_settings": {"application_name": "chatsession"}}
    return await opened(url, statement_cache_size=statements, timeout=timeout, **named)


def drop_without_loop(connection: Connection, *, inherited: bool) -> None:
    """Drop a connection whose event loop is gone.

    Args:
        connection: as it was opened, or borrowed from a pool.
        inherited: the parent process goes on using it, so that not a byte may be sent on it.
    """
    opened: Any = getattr(connection, "_con", connection)  # a pool lends proxies
    if inherited:
        # Otherwise asyncpg would end the parent's session at the server when the object is deleted.
        opened._aborted = True
        _inherited.append(opened)
        return
    transport: Any = getattr(opened, "_transport", None)
    # This ends the session at the server, and then fails, because the closed loop cannot close the socket.
    with suppress(Exception):
        connection.terminate()
    with suppress(Exception):
        if transport._loop.is_closed():  # otherwise `terminate` has left it to the loop
            transport._call_connection_lost(None)


def belongs_to_running_loop(pool: Pool) -> bool:
    """Whether a pool can be used here; asyncpg binds it to the loop in which it was made."""
    return getattr(pool, "_loop", None) in (None, asyncio.get_running_loop())


def caches_statements(connection: Connection) -> bool:
    """Whether asyncpg keeps prepared statements in this connection."""
    config: Any = getattr(getattr(connection, "_con", connection), "_config", None)
    return bool(getattr(config, "statement_cache_size", 0))

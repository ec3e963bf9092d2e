"""What this storage needs of asyncpg, which has no types of its own: the one place where they are taken on trust."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias, cast

try:
    import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it has none
except ImportError as error:
    raise ImportError("sessions in PostgreSQL need asyncpg: pip install 'chatsession[postgres]'") from error

PostgresError = asyncpg.PostgresError
InterfaceError = asyncpg.InterfaceError
InternalClientError = asyncpg.InternalClientError

Row: TypeAlias = tuple[object, ...]
OnNotify: TypeAlias = Callable[[object, int, str, str], None]


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


async def connect(url: str, *, statements: int, timeout: float) -> Connection:
    """One connection; `statements`: how many prepared statements it keeps."""
    opened = cast("Callable[..., Awaitable[Connection]]", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]
    named = {} if "application_name" in url else {"server_settings": {"application_name": "chatsession"}}
    return await opened(url, statement_cache_size=statements, timeout=timeout, **named)

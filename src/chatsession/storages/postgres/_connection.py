"""The few connections that calls travel on: opened here, or borrowed from the user's own pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from chatsession.storages.postgres._driver import Connection, Pool
from chatsession.storages.postgres._errors import spoils


class Connections(Protocol):
    """Where to get a connection for the time of one call."""

    async def acquire(self) -> Connection:
        """Wait for a free connection; open it where needed."""
        ...

    def release(self, connection: Connection) -> None:
        """Give it back."""
        ...

    async def close(self) -> None:
        """Close what was opened here."""
        ...


@asynccontextmanager
async def borrowed(connections: Connections) -> AsyncGenerator[Connection]:
    """A connection for one call."""
    connection = await connections.acquire()
    try:
        yield connection
    except BaseException as error:
        if spoils(error):
            connection.terminate()
        raise
    finally:
        connections.release(connection)


class OwnConnections:
    """Opened when they are needed, up to a number, and kept; the one used last is the next to be used.

    asyncpg's own pool would ask the server to reset a connection after each call: one more round trip.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], most: int) -> None:
        self._connect = connect
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(most)
        self._closed = False

    async def acquire(self) -> Connection:
        await self._free.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            return await self._connect()
        except BaseException:
            self._free.release()
            raise

    def release(self, connection: Connection) -> None:
        self._free.release()
        if self._closed:
            connection.terminate()
        elif not connection.is_closed():
            self._idle.append(connection)

    async def close(self) -> None:
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*map(close_quickly, idle))


class BorrowedConnections:
    """The user's pool. What it does when it gets a connection back goes on beside the next calls."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._returning: set[asyncio.Task[object]] = set()

    async def acquire(self) -> Connection:
        return await self._pool.acquire()

    def release(self, connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(self._give_back(connection))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def close(self) -> None:
        while self._returning:
            await asyncio.wait(self._returning)

    async def _give_back(self, connection: Connection) -> None:
        with suppress(Exception):  # the pool then drops that connection, and opens another when it needs one
            await self._pool.release(connection, timeout=5)


async def close_quickly(connection: Connection) -> None:
    """Say goodbye, but do not wait long for an answer."""
    with suppress(Exception):  # asyncpg cuts a connection that it cannot close
        await connection.close(timeout=2)

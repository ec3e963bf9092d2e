"""The few connections on which calls travel: opened here, or borrowed from the user's own pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from chatsession.storages.postgres._driver import Connection, Pool, drop_without_loop
from chatsession.storages.postgres._errors import must_cut


class Connections(Protocol):
    """A source of connections, each of which is used for one call at a time."""

    async def acquire(self) -> Connection:
        """Wait for a free connection; open one where needed."""
        ...

    def release(self, connection: Connection) -> None:
        """Return a connection."""
        ...

    async def drop_idle(self) -> None:
        """Close idle connections: one that was just used did not answer, and the others may be dead as well."""
        ...

    async def close(self) -> None:
        """Close what was opened here."""
        ...

    def forget(self, *, inherited: bool) -> None:
        """As `Storage.forget`."""
        ...


@asynccontextmanager
async def borrowed(connections: Connections) -> AsyncGenerator[Connection]:
    """A connection for one call."""
    connection = await connections.acquire()
    try:
        yield connection
    except GeneratorExit:  # the event loop is gone; `forget` decides about the connection
        raise
    except BaseException as error:
        if must_cut(error):
            connection.terminate()
        connections.release(connection)
        raise
    else:
        connections.release(connection)


class OwnConnections:
    """Connections opened on demand, up to a number, and kept; the one used last is used next.

    asyncpg's own pool would ask the server to reset a connection after each call: one more round trip.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], most: int) -> None:
        self._connect = connect
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self._free = asyncio.Semaphore(most)
        self._closed = False

    async def acquire(self) -> Connection:
        await self._free.acquire()
        try:
            connection = self._pop_idle() or await self._connect()
        except BaseException:
            self._free.release()
            raise
        self._used.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        self._used.discard(connection)
        self._free.release()
        if self._closed:
            connection.terminate()
        elif not connection.is_closed():
            self._idle.append(connection)

    async def drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.terminate()

    async def close(self) -> None:
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*map(close_quickly, idle))

    def forget(self, *, inherited: bool) -> None:
        for connection in (*self._idle, *self._used):
            drop_without_loop(connection, inherited=inherited)
        self._idle.clear()
        self._used.clear()

    def _pop_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None


class BorrowedConnections:
    """Connections of the user's pool. The pool resets a returned connection while the next calls go on."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._used: set[Connection] = set()
        self._returning: set[asyncio.Task[object]] = set()

    async def acquire(self) -> Connection:
        connection = await self._pool.acquire()
        self._used.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        self._used.discard(connection)
        task = asyncio.get_running_loop().create_task(self._give_back(connection))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def drop_idle(self) -> None:
        await self._pool.expire_connections()

    async def close(self) -> None:
        while self._returning:
            await asyncio.wait(self._returning)

    def forget(self, *, inherited: bool) -> None:
        if inherited:  # those of a closed loop are the pool's own affair
            for connection in self._used:
                drop_without_loop(connection, inherited=True)
        self._used.clear()
        self._returning.clear()

    async def _give_back(self, connection: Connection) -> None:
        with suppress(Exception):  # the pool then drops that connection, and opens another when it needs one
            await self._pool.release(connection, timeout=5)


async def close_quickly(connection: Connection) -> None:
    """Close a connection without waiting long for the server's answer."""
    with suppress(Exception):  # asyncpg cuts a connection that it cannot close
        await connection.close(timeout=2)

"""Wakes waiters as soon as a key is unlocked: LISTEN on one connection, opened when an update first waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from chatsession.storages._shared.waiters import WaiterRegistry, wake_token
from chatsession.storages.postgres._driver import Connection, drop_without_loop
from chatsession.storages.postgres._errors import as_storage_error

_log = logging.getLogger("chatsession")

_TRY_AGAIN_AFTER = 5.0
_LONGEST_SILENCE = 10.0
"""Seconds after which the connection is tried before it is relied on: a firewall may have forgotten it."""
_LONGEST_PROBE = 2.0


class Wakeups:
    """Lets waiters sleep until the server names them in a notification.

    Args:
        channel: the channel of the notifications.
        acquire: opens the connection; it must be a direct one, since a pooler delivers no notifications.
        release: closes it, or gives it back.
    """

    def __init__(
        self,
        channel: str,
        acquire: Callable[[], Awaitable[Connection]],
        release: Callable[[Connection], Awaitable[object]],
    ) -> None:
        self._channel = channel
        self._acquire = acquire
        self._release = release
        self._connection: Connection | None = None
        self._starting = asyncio.Lock()
        self._next_try = 0.0
        self._heard = 0.0
        """When the server was last heard on the connection, by the loop's clock."""
        self._waiters = WaiterRegistry()

    @property
    def listening(self) -> bool:
        """Whether a waiter will be woken."""
        return self._connection is not None and not self._connection.is_closed()

    async def check(self) -> None:
        """Close the connection if it was silent for a long time and no longer answers."""
        if not self.listening or self._is_fresh():
            return
        async with self._starting:
            connection = self._connection
            if connection is None or connection.is_closed() or self._is_fresh():
                return
            try:
                async with asyncio.timeout(_LONGEST_PROBE):
                    await connection.fetchval("SELECT 1")
            except Exception:
                connection.terminate()
            else:
                self._heard = asyncio.get_running_loop().time()

    async def start(self) -> bool:
        """Listen (again); `False` if that is impossible at the moment."""
        async with self._starting:
            now = asyncio.get_running_loop().time()
            if self.listening or now < self._next_try:
                return self.listening
            self._next_try = now + _TRY_AGAIN_AFTER
            try:
                async with asyncio.timeout(_TRY_AGAIN_AFTER):
                    await self._listen()
            except Exception as error:
                _log.warning("waiting for session locks by polling for now: %s", as_storage_error(error))
                return False
            self._next_try = 0.0
            return True

    async def wait(self, waiter: str, seconds: float) -> None:
        """Return when this waiter is woken, or when the time is over."""
        await self._waiters.wait(waiter, seconds)

    async def stop(self) -> None:
        """Stop listening."""
        async with self._starting:
            connection, self._connection = self._connection, None
            if connection is not None:
                await self._unlisten(connection)

    def forget(self, *, inherited: bool) -> None:
        """As `Storage.forget`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            drop_without_loop(connection, inherited=inherited)

    async def _listen(self) -> None:
        old, self._connection = self._connection, None
        if old is not None:
            await self._unlisten(old)
        connection = await self._acquire()
        try:
            await connection.add_listener(self._channel, self._wake)
        except BaseException:
            connection.terminate()
            await self._release(connection)
            raise
        self._connection = connection
        self._heard = asyncio.get_running_loop().time()

    def _is_fresh(self) -> bool:
        return asyncio.get_running_loop().time() - self._heard < _LONGEST_SILENCE

    async def _unlisten(self, connection: Connection) -> None:
        try:
            if not connection.is_closed():
                async with asyncio.timeout(2):
                    await connection.remove_listener(self._channel, self._wake)
        except Exception:  # the connection is closed in any case
            connection.terminate()
        with suppress(Exception):  # a pool drops a connection that it cannot reset
            await self._release(connection)

    def _wake(self, _connection: object, _pid: int, _channel: str, waiter: str) -> None:
        self._heard = asyncio.get_running_loop().time()
        self._waiters.wake(wake_token(waiter))

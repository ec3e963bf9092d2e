"""Being told that a key was unlocked: LISTEN on one connection, which is opened when somebody first waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from chatsession.storages.postgres._driver import Connection
from chatsession.storages.postgres._errors import ours

_log = logging.getLogger("chatsession")

_REMEMBERED = 1000
_TRY_AGAIN_AFTER = 5.0


class Wakes:
    """Lets waiters sleep until the server names them.

    Args:
        channel: where they are named.
        acquire: opens the connection; it must be a direct one, since a pooler between delivers no notifications.
        release: takes it back.
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
        self._sleepers: dict[str, asyncio.Event] = {}
        # Named before they went to sleep (or waiters of other processes), oldest first.
        self._early: dict[str, None] = {}

    @property
    def listening(self) -> bool:
        """Will a waiter be woken?"""
        return self._connection is not None and not self._connection.is_closed()

    async def start(self) -> bool:
        """Listen (again); `False` if that cannot be had at the moment."""
        async with self._starting:
            now = asyncio.get_running_loop().time()
            if self.listening or now < self._next_try:
                return self.listening
            self._next_try = now + _TRY_AGAIN_AFTER
            try:
                async with asyncio.timeout(_TRY_AGAIN_AFTER):
                    await self._listen()
            except Exception as error:
                _log.warning("waiting for session locks by polling for now: %s", ours(error))
                return False
            self._next_try = 0.0
            return True

    async def sleep(self, waiter: str, seconds: float) -> None:
        """Return when this waiter is named, or when the time is over."""
        if waiter in self._early:
            del self._early[waiter]
            return
        event = self._sleepers[waiter] = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            del self._sleepers[waiter]

    async def stop(self) -> None:
        """Listen no more."""
        async with self._starting:
            connection, self._connection = self._connection, None
            if connection is not None:
                await self._let_go(connection)

    async def _listen(self) -> None:
        old, self._connection = self._connection, None
        if old is not None:
            await self._let_go(old)
        connection = await self._acquire()
        try:
            await connection.add_listener(self._channel, self._named)
        except BaseException:
            connection.terminate()
            await self._release(connection)
            raise
        self._connection = connection

    async def _let_go(self, connection: Connection) -> None:
        try:
            if not connection.is_closed():
                async with asyncio.timeout(2):
                    await connection.remove_listener(self._channel, self._named)
        except Exception:  # it is given up anyway
            connection.terminate()
        await self._release(connection)

    def _named(self, _connection: object, _pid: int, _channel: str, waiter: str) -> None:
        sleeper = self._sleepers.get(waiter)
        if sleeper is not None:
            sleeper.set()
            return
        self._early[waiter] = None
        if len(self._early) > _REMEMBERED:
            del self._early[next(iter(self._early))]

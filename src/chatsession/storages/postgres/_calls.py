"""Calls that are repeated when the connection or the server fails, within a bound of time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from chatsession.errors import StorageUnavailableError
from chatsession.storages._shared.retries import retried
from chatsession.storages.postgres._connection import Connections, borrowed
from chatsession.storages.postgres._driver import Connection
from chatsession.storages.postgres._errors import as_storage_error, is_row_held, is_transient

Result = TypeVar("Result")

Call: TypeAlias = Callable[[Connection, bool], Awaitable[Result]]
"""Takes a connection, and whether an earlier attempt of the same call may have been executed unnoticed."""

_FIRST_TRY = 3.0
"""Seconds. A firewall that forgot a connection silently drops what is sent on it; a new connection works."""


class Calls:
    """Makes calls, each on a connection of its own.

    Args:
        connections: where the connections come from.
        retry_for: the most seconds that a call takes, with all attempts.
    """

    def __init__(self, connections: Connections, retry_for: float) -> None:
        self._connections = connections
        self._retry_for = retry_for

    async def run(self, call: Call[Result]) -> Result:
        """Make a call that may be repeated.

        Raises:
            RowHeldError: another transaction holds a row for a long time, and the call has certainly changed nothing.
            StorageUnavailableError: no attempt succeeded in time.
            StorageError: the server refused the call, and would refuse it again.
        """
        trial = _Trial()
        try:
            async with asyncio.timeout(self._retry_for):
                while True:
                    try:
                        return await self._try(call, trial)
                    except Exception as error:
                        # The row may also be held by an earlier attempt of this call, which goes on in the server.
                        if not is_transient(error) and not (is_row_held(error) and trial.tries > 1):
                            raise as_storage_error(error) from None
                        trial.failure = error
                    retried("PostgreSQL")
                    if isinstance(trial.failure, TimeoutError):
                        await self._connections.drop_idle()
                    trial.pause = min(2 * trial.pause, 1.0)
                    await asyncio.sleep(trial.pause * random.uniform(0.7, 1.0))
        except TimeoutError:
            raise StorageUnavailableError(f"{trial.failure_text()}, for {self._retry_for:g} s") from None

    async def _try(self, call: Call[Result], trial: _Trial) -> Result:
        async with borrowed(self._connections) as connection:
            trial.tries += 1
            again = trial.tries > 1
            async with asyncio.timeout(None if again else min(_FIRST_TRY, self._retry_for / 2)):
                return await call(connection, again)


class _Trial:
    """The progress of one call."""

    __slots__ = ("failure", "pause", "tries")

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.pause = 0.02
        self.tries = 0

    def failure_text(self) -> str:
        if self.failure is not None and not isinstance(self.failure, TimeoutError):
            return str(as_storage_error(self.failure))
        if self.tries:
            return "PostgreSQL did not answer"
        return "PostgreSQL let no connection in, or none of the pool became free"

"""The server's clock, by which sessions expire."""

from __future__ import annotations

import time

from chatsession.storages.postgres._driver import Connection


class ServerClock:
    """Knows the server's time without asking for it each time.

    The client's clock may be wrong, and may be set while the program runs. So the time is the server's last answer
    plus the time since then, measured by a clock that is never set.
    """

    def __init__(self) -> None:
        self._server_time: float | None = None
        self._measured = 0.0

    def now(self) -> float:
        """Return Unix time in seconds: this machine's until the server has been asked."""
        if self._server_time is None:
            return time.time()
        return self._server_time + _uptime() - self._measured

    async def measure(self, connection: Connection) -> None:
        """Ask the server for its time."""
        asked = _uptime()
        told = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        answered = _uptime()
        if isinstance(told, float):
            self._server_time, self._measured = told, (asked + answered) / 2

    def forget(self) -> None:
        """Use the client's clock until the next measurement."""
        self._server_time = None


def _uptime() -> float:
    """Return seconds since some moment, including the time for which the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()

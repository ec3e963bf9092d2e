"""The server's clock, by which sessions and locks expire."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from chatsession.storages.mongo._connection import Client

_SECONDS_VALID = 60.0
_QUESTIONS = 3
_STEP = 1.0
"""Seconds by which this machine's two clocks may differ before the server is asked again."""


class ServerClock:
    """Estimates the server's time between two measurements, whatever this machine's clock is set to."""

    def __init__(self) -> None:
        self._server: float | None = None
        self._steady = 0.0
        self._wall = 0.0

    def now(self) -> float:
        """Unix time in seconds; that of this machine until the server was asked."""
        if self._server is None:
            return time.time()
        return self._server + time.monotonic() - self._steady

    def is_due(self) -> bool:
        """Whether the server is to be asked again: after a minute, or when this machine was set or has slept."""
        passed = time.monotonic() - self._steady
        return self._server is None or passed > _SECONDS_VALID or abs(time.time() - self._wall - passed) > _STEP

    async def measure(self, client: Client) -> None:
        """Ask the primary for its time, and believe the fastest of a few answers."""
        fastest = float("inf")
        for _ in range(_QUESTIONS):
            asked = time.monotonic()
            answer = await client.admin.command("hello")
            answered = time.monotonic()
            if answered - asked < fastest:
                fastest = answered - asked
                told: datetime = answer["localTime"]
                self._server = told.replace(tzinfo=UTC).timestamp()
                self._steady, self._wall = answered - fastest / 2, time.time() - fastest / 2

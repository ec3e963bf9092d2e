"""The server's time, by which sessions expire."""

from __future__ import annotations

import time
from typing import cast

_SECONDS_VALID = 60.0
_STEP = 1.0
"""Seconds by which this machine's two clocks may differ before the server is asked again."""


class ServerClock:
    """Estimates the server's time between two measurements, whatever this machine's clock is set to."""

    def __init__(self) -> None:
        self._measured: float | None = None
        self._steady = 0.0
        self._wall = 0.0

    def now(self) -> float:
        """Return Unix seconds; the time of this machine until the server was asked."""
        if self._measured is None:
            return time.time()
        return self._measured + time.monotonic() - self._steady

    def is_due(self) -> bool:
        """Whether the server should be asked again: after a while, or if a clock was set or the machine slept."""
        passed = time.monotonic() - self._steady
        return self._measured is None or passed > _SECONDS_VALID or abs(time.time() - self._wall - passed) > _STEP

    def set(self, answer: object) -> None:
        """Apply the reply to `TIME`; after an error reply, this machine's time is used."""
        self._steady, self._wall = time.monotonic(), time.time()
        if not isinstance(answer, list):
            self._measured = self._wall
            return
        seconds, micros = cast("list[bytes]", answer)
        self._measured = int(seconds) + int(micros) / 1_000_000

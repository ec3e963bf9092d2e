"""A server's time, by which sessions and leases expire."""

from __future__ import annotations

import time

_SECONDS_VALID = 60.0
_STEP = 1.0
"""Seconds by which this machine's clocks may disagree: they do when one is set, and after the machine has slept."""


class ServerClock:
    """Estimates the server's time between two measurements, whatever this machine's clock is set to."""

    def __init__(self) -> None:
        self._measured: float | None = None
        self._steady = self._wall = 0.0

    def now(self) -> float:
        """Unix seconds; the time of this machine where the server's is not known."""
        if self._measured is None:
            return time.time()
        return self._measured + time.monotonic() - self._steady

    def is_due(self) -> bool:
        """Whether the server should be asked again: after a while, or if a clock was set or the machine slept."""
        passed = time.monotonic() - self._steady
        return not self._wall or passed > _SECONDS_VALID or abs(time.time() - self._wall - passed) > _STEP

    def set(self, server: float | None, asked_at: float) -> None:
        """Take over the server's time, when its answer has just come.

        Args:
            server: Unix seconds; `None`: it does not tell its time.
            asked_at: `time.monotonic()` before the question.
        """
        self._steady, self._wall = time.monotonic(), time.time()
        self._measured = None if server is None else server + (self._steady - asked_at) / 2

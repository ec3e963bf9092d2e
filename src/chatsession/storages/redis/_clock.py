"""The server's time, by which sessions expire."""

from __future__ import annotations

import time
from typing import cast

_SECONDS_VALID = 60.0
_STEP = 1.0
"""Seconds by which this machine's clocks may disagree: they do when one is set, and after the machine has slept."""


class ServerClock:
    """Tells the server's time between two measurements, whatever this machine's clock is set to."""

    def __init__(self) -> None:
        self._measured: float | None = None
        self._steady = 0.0
        self._wall = 0.0

    def now(self) -> float:
        """Unix seconds; the time of this machine until the server was asked."""
        if self._measured is None:
            return time.time()
        return self._measured + time.monotonic() - self._steady

    def is_due(self) -> bool:
        """Should the server be asked (again)?"""
        passed = time.monotonic() - self._steady
        return self._measured is None or passed > _SECONDS_VALID or abs(time.time() - self._wall - passed) > _STEP

    def set(self, answer: object) -> None:
        """Take over the answer to `TIME`; a refusal leaves this machine's time."""
        self._steady, self._wall = time.monotonic(), time.time()
        if not isinstance(answer, list):
            self._measured = self._wall
            return
        seconds, micros = cast("list[bytes]", answer)
        self._measured = int(seconds) + int(micros) / 1_000_000

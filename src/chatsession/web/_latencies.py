"""How long the storage takes to answer, as seen from here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

from msgspec import Struct

MOST_KEPT = 600


class Latency(Struct, frozen=True, array_like=True, gc=False):
    """One call."""

    at: float
    """Unix time in seconds."""
    kind: Literal["read", "commit"]
    milliseconds: float


class Latencies:
    """The last calls."""

    def __init__(self) -> None:
        self.count = 0
        self._last: deque[Latency] = deque(maxlen=MOST_KEPT)

    @contextmanager
    def measured(self, kind: Literal["read", "commit"]) -> Generator[None]:
        """Record how long the block takes, if it succeeds."""
        start = time.perf_counter()
        yield
        self._last.append(Latency(time.time(), kind, (time.perf_counter() - start) * 1000))
        self.count += 1

    def since(self, count: int) -> list[Latency]:
        """The calls after the first `count`."""
        new = min(self.count - count, len(self._last))
        return list(self._last)[len(self._last) - new :]

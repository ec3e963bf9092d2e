"""How many sessions there are, how large, and which stand out; for the command line and the inspector."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TypeAlias

from chatsession.storages import Record

Ranked: TypeAlias = tuple[float, str]
"""How far a session stands out, and its key."""


class Statistics:
    """Gathered from one pass over all sessions, in constant memory.

    Args:
        top: how many of the largest, the oldest, and those that expire next are named.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self.sessions = 0
        self.bytes = 0
        self.expiring = 0
        self.sizes: Counter[int] = Counter()
        """Exponent n: how many sessions have at most 2**n bytes and fit no smaller class."""
        self._largest: list[Ranked] = []
        self._soonest: list[Ranked] = []
        self._oldest: list[Ranked] = []

    def add(self, key: str, record: Record) -> None:
        """Count one session."""
        length = len(record.value)
        self.sessions += 1
        self.bytes += length
        self.sizes[max(length - 1, 0).bit_length()] += 1
        self._rank(self._largest, length, key)
        if record.expires_at is not None:
            self.expiring += 1
            self._rank(self._soonest, -record.expires_at, key)
        if isinstance(record.version, int):  # these storages number all commits, so that the lowest is the oldest
            self._rank(self._oldest, -record.version, key)

    @property
    def largest(self) -> list[Ranked]:
        return sorted(self._largest, reverse=True)

    @property
    def soonest(self) -> list[Ranked]:
        """By the moment at which they expire."""
        return sorted((-at, key) for at, key in self._soonest)

    @property
    def oldest(self) -> list[Ranked]:
        """By the number of their last commit; none where the storage keeps no such order."""
        return sorted((-number, key) for number, key in self._oldest)

    def _rank(self, heap: list[Ranked], by: float, key: str) -> None:
        if len(heap) < self._top:
            heapq.heappush(heap, (by, key))
        elif heap and by > heap[0][0]:
            heapq.heapreplace(heap, (by, key))

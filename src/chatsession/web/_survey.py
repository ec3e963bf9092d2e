"""How many sessions there are, and how large: counted periodically while the figures are shown."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from chatsession.errors import SessionError
from chatsession.maintenance import Scope, pages
from chatsession.statistics import Statistics
from chatsession.storages import Storage

MOST_COUNTS = 500
MOST_LARGEST = 10
SECONDS_BETWEEN = 5.0
PAUSE_BY_DURATION = 10.0
"""A count is followed by a pause that is this much longer, so that large storages are not read all the time."""


class Survey:
    """Counts the sessions of a storage, for all pages that show figures.

    Args:
        storage: is open.
    """

    def __init__(self, storage: Storage) -> None:
        self.done: Statistics | None = None
        """The latest complete count."""
        self.going_on: Statistics | None = None
        """The count that is running."""
        self.counts: deque[tuple[float, int]] = deque(maxlen=MOST_COUNTS)
        """Unix time in seconds, and how many there were."""
        self.problem = ""
        self._storage = storage
        self._lookers = 0
        self._work: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Survey:
        """A page starts to show figures."""
        self._lookers += 1
        if self._work is None:
            self._work = asyncio.create_task(self._count_periodically())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._lookers -= 1
        if self._lookers or self._work is None:
            return
        work, self._work = self._work, None
        work.cancel()
        await asyncio.wait([work])

    async def _count_periodically(self) -> None:
        while True:
            start = time.monotonic()
            try:
                self.going_on = Statistics(MOST_LARGEST)
                await self._count(self.going_on)
            except SessionError as error:
                self.problem = str(error)
            else:
                self.problem, self.done = "", self.going_on
                self.counts.append((time.time(), self.done.sessions))
            finally:
                self.going_on = None
            await asyncio.sleep(max(SECONDS_BETWEEN, PAUSE_BY_DURATION * (time.monotonic() - start)))

    async def _count(self, found: Statistics) -> None:
        start = time.monotonic()
        async for entries, _ in pages(self._storage, Scope()):
            for key, record in entries:
                found.add(key, record)
            await asyncio.sleep(time.monotonic() - start)  # leave half of the time to the bot
            start = time.monotonic()

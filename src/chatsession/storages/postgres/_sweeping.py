"""Deletes expired sessions periodically, because PostgreSQL does not do so by itself."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import cast

from chatsession.errors import StorageError
from chatsession.storages._shared.sweeper import drop, end
from chatsession.storages.postgres._database import Database

_log = logging.getLogger("chatsession")

_SWEPT_AT_ONCE = 5000


class Sweeper:
    """Sweeps in the background, in each process at random times; rows that another one is sweeping are skipped.

    Args:
        database: an open one.
        interval: about how many seconds pass between two sweeps.
    """

    def __init__(self, database: Database, interval: float) -> None:
        self._database = database
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start sweeping."""
        self._task = asyncio.create_task(self._run(), name="chatsession: sweep of PostgreSQL")

    async def stop(self) -> None:
        """Stop sweeping."""
        task, self._task = self._task, None
        await end(task)

    def forget(self) -> None:
        """As `Storage.forget`."""
        drop(self._task)
        self._task = None

    async def sweep(self, limit: int) -> list[int]:
        """Delete at most `limit` expired rows of each table; returns how many of each, the sessions first."""
        ((swept,),) = await self._database.fetch("SELECT {sweep}($1)", limit)
        return cast("list[int]", swept)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval * random.uniform(0.5, 1.5))
            try:
                await self._sweep_all()
            except StorageError as error:
                _log.warning("expired sessions could not be swept this time: %s", error)

    async def _sweep_all(self) -> None:
        while True:
            swept = await self.sweep(_SWEPT_AT_ONCE)
            if max(swept) < _SWEPT_AT_ONCE:
                return
            await asyncio.sleep(0.1)

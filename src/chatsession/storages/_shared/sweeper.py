"""Background tasks of storages: the sweep, where the server does not expire records."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, cast

from chatsession.errors import StorageError
from chatsession.storages.base import Storage

_log = logging.getLogger("chatsession")


async def sweep_now_and_then(storage: Storage, interval: float) -> None:
    """Sweep every `interval` seconds, until the task that runs this is cancelled; a failure is logged."""
    while True:
        await asyncio.sleep(interval)
        try:
            await storage.sweep()
        except StorageError as error:
            _log.warning("expired sessions could not be removed: %s", error)


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel a task, and return when it has ended."""
    while task is not None and not task.done():
        task.cancel()
        # Until Python 3.12, `asyncio.wait_for`, which drivers use, swallows a cancellation when its own wait is over.
        await asyncio.wait([task], timeout=1.0)


def drop(task: asyncio.Task[None] | None) -> None:
    """Drop a task of an event loop that is closed, or that may run again some day, without the error of asyncio."""
    if task is not None:
        cast("Any", task)._log_destroy_pending = False  # as asyncio does where it drops a task on purpose
        with suppress(RuntimeError):  # the loop is closed
            task.cancel()

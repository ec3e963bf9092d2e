"""The background sweep of storages whose server does not expire records."""

from __future__ import annotations

import asyncio
import logging

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

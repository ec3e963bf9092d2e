"""Tells the one who delivers an update that it must be delivered again, whatever frameworks do with the error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from chatsession.errors import (
    SessionConflictError,
    SessionLockTimeoutError,
    SessionUnsentError,
    StorageUnavailableError,
)

REDELIVERABLE = (SessionConflictError, SessionLockTimeoutError, SessionUnsentError, StorageUnavailableError)
"""Nothing of the update is stored, or all of it but what is to be sent; another delivery puts it right."""


class Delivery:
    """One delivery of one update."""

    __slots__ = ("error", "tasks")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        """Why the update is not done."""
        self.tasks: list[asyncio.Task[Any]] = []
        """What belongs to the update, and outlives the call that handles it."""

    async def join(self) -> None:
        """Wait for the tasks that belong to the update."""
        while self.tasks:
            await asyncio.wait([self.tasks.pop()])


class ThreadDelivery(Delivery):
    """One delivery of one update, which is handled in threads.

    Args:
        on_done: is called in one of these threads, when the last of them is done with the update.
    """

    __slots__ = ("_lock", "_on_done", "_under_way")

    def __init__(self, on_done: Callable[[], None]) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._on_done = on_done
        self._under_way = 0

    def begin(self) -> None:
        """A part of the update is about to be handled."""
        with self._lock:
            self._under_way += 1

    def end(self) -> None:
        """A part of the update is done."""
        with self._lock:
            self._under_way -= 1
            done = not self._under_way
        if done:
            self._on_done()

    def hand_over(self, process: Callable[..., object], *args: Any) -> None:
        """Call what gives the update to the threads."""
        self.begin()
        token = delivering.set(self)
        try:
            process(*args)
        finally:
            delivering.reset(token)
            self.end()


delivering: ContextVar[Delivery | None] = ContextVar("chatsession_delivery", default=None)


def note_undone(error: BaseException | None) -> None:
    """An update has failed; if another delivery would put it right, it is not done."""
    if isinstance(error, REDELIVERABLE) and (delivery := delivering.get()) is not None:
        delivery.error = error


def belongs_to_update(task: asyncio.Task[Any]) -> None:
    """The update is not done before this task is."""
    if (delivery := delivering.get()) is not None:
        delivery.tasks.append(task)

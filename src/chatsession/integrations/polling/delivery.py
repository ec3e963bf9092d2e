"""When an update is done, and whether it must be delivered again.

A framework gives errors to its error handlers, and then returns as if nothing had happened. So the code that handles
an update notes here what the code that delivers it must know.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from chatsession.errors import (
    SessionConflictError,
    SessionLockTimeoutError,
    SessionUnsentError,
    StorageUnavailableError,
)
from chatsession.integrations.polling.window import RawUpdate

_log = logging.getLogger("chatsession")

REDELIVERABLE = (SessionConflictError, SessionLockTimeoutError, SessionUnsentError, StorageUnavailableError)
"""After these, either nothing of the update is stored, or only its actions are not sent: another delivery helps."""


class Delivery:
    """One delivery of one update. It is done when all its parts have ended; delivering it is the first part.

    Args:
        on_done: called with the delivery when the last part ends.
    """

    __slots__ = ("_on_done", "_parts", "error")

    def __init__(self, on_done: Callable[[Any], object]) -> None:
        self.error: BaseException | None = None
        """Why the update must be delivered again."""
        self._on_done = on_done
        self._parts = 1

    def begin(self) -> None:
        """A further part of the update is about to be handled."""
        self._parts += 1

    def end(self) -> None:
        """A part of the update has been handled."""
        self._parts -= 1
        if not self._parts:
            self._on_done(self)


class ThreadDelivery(Delivery):
    """The delivery of an update that is handled in threads."""

    __slots__ = ("_lock",)

    def __init__(self, on_done: Callable[[Any], object]) -> None:
        super().__init__(on_done)
        self._lock = threading.Lock()

    def begin(self) -> None:
        with self._lock:
            self._parts += 1

    def end(self) -> None:
        with self._lock:
            self._parts -= 1
            done = not self._parts
        if done:
            self._on_done(self)


class PolledUpdate(Delivery):
    """The delivery of an update that was fetched by polling.

    Args:
        update: the update as it was fetched.
        on_done: see `Delivery`.
        retry: seconds after which it is handled again if it is not done.
    """

    __slots__ = ("abandoned", "retry", "update", "update_id")

    def __init__(self, update: RawUpdate, on_done: Callable[[PolledUpdate], object], retry: float) -> None:
        super().__init__(on_done)
        self.update = update
        self.update_id: int = update["update_id"]
        self.retry = retry
        self.abandoned = False
        """Polling has ended and does not wait for the update. Telegram delivers it again."""

    async def handle(self, handle: Callable[[], Awaitable[object]]) -> None:
        """Handle the update, and end its first part, also if the handler fails or is cancelled."""
        delivering.set(self)
        try:
            await handle()
        except asyncio.CancelledError:
            if self.abandoned:
                raise
            _log.warning("update %d failed: its handler was cancelled", self.update_id)
        except Exception:
            _log.exception("update %d failed", self.update_id)
        self.end()


delivering: ContextVar[Delivery | None] = ContextVar("chatsession_delivery", default=None)
"""The delivery of the update that is being handled."""


def note_undone(error: BaseException | None) -> None:
    """The update has failed. It is not done if another delivery would help."""
    if isinstance(error, REDELIVERABLE):
        leave_undone(error)


def leave_undone(error: BaseException) -> None:
    """The update must be delivered again."""
    if (delivery := delivering.get()) is not None:
        delivery.error = error


def inside_update() -> bool:
    """Whether the caller is a handler, which must not wait for the end of its own update."""
    return delivering.get() is not None


def belongs_to_update(task: asyncio.Task[Any]) -> None:
    """The update is done only when this task is done."""
    if (delivery := delivering.get()) is not None:
        delivery.begin()
        task.add_done_callback(lambda _: delivery.end())

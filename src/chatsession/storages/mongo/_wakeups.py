"""Wakes waiters when a key is unlocked, by a change stream that is opened when an update first waits."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import OperationFailure, PyMongoError

from chatsession.storages._shared.sweeper import end
from chatsession.storages._shared.waiters import WaiterRegistry, wake_token
from chatsession.storages.mongo._errors import as_storage_error, passes

_log = logging.getLogger("chatsession")

_TRY_AGAIN_AFTER = 1.0

WAKE_EVENTS: list[Mapping[str, Any]] = [
    {"$match": {"operationType": "update", "updateDescription.removedFields": "waited"}},
    {"$project": {"documentKey": True}},
]
"""Passes only the changes that unlock a key for which others wait."""


class Wakeups:
    """Lets waiters sleep until their document is unlocked.

    Args:
        watch: opens the change stream.
    """

    def __init__(self, watch: Callable[[], Awaitable[AsyncChangeStream[Any]]]) -> None:
        self._watch = watch
        self._waiters = WaiterRegistry()
        self._document_of: dict[str, object] = {}
        self._waiters_for: defaultdict[object, set[str]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    @property
    def listening(self) -> bool:
        """Whether the change stream is open, so that waiters are woken."""
        return self._ready.is_set()

    def must_wait(self, waiter: str, document: object, seconds: float) -> None:
        """Note that a waiter waits for a document; the first one starts to listen.

        Args:
            waiter: the request's name.
            document: its `_id`.
            seconds: how long the lock on it lasts.
        """
        self._waiters.must_wait(waiter, seconds)
        self._document_of[waiter] = document
        self._waiters_for[document].add(waiter)
        if self._listener is None:
            # In a fresh context: the time limit of the current call does not apply to the stream.
            self._listener = asyncio.get_running_loop().create_task(
                self._listen(), name="chatsession: wake-ups from MongoDB", context=contextvars.Context()
            )

    def stop_waiting(self, waiter: str) -> None:
        """Forget a waiter."""
        if waiter not in self._document_of:
            return
        self._waiters.stop_waiting(waiter)
        document = self._document_of.pop(waiter)
        self._waiters_for[document].discard(waiter)
        if not self._waiters_for[document]:
            del self._waiters_for[document]

    async def wait(self, waiter: str, seconds: float) -> None:
        """Return when the waiter's document is unlocked, when the lock on it ends, or after some seconds."""
        await self._waiters.wait(waiter, seconds)

    async def stop(self) -> None:
        """Stop listening."""
        listener, self._listener = self._listener, None
        await end(listener)

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except PyMongoError as error:
                if isinstance(error, OperationFailure) and not passes(error):
                    _log.warning("updates that wait for another process poll: %s", as_storage_error(error, "MongoDB"))
                    return
            finally:
                self._ready.clear()
            await asyncio.sleep(_TRY_AGAIN_AFTER)

    async def _listen_once(self) -> None:
        async with await self._watch() as stream:
            self._ready.set()
            async for event in stream:
                for waiter in self._waiters_for.get(event["documentKey"]["_id"], ()):
                    self._waiters.wake(wake_token(waiter))

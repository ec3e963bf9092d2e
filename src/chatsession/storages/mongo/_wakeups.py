"""Wakes waiters as soon as a key is unlocked: a change stream, opened when an update first waits."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import OperationFailure, PyMongoError

from chatsession.storages._shared.waiters import WaiterRegistry, wake_token
from chatsession.storages.mongo._errors import as_storage_error, passes

_log = logging.getLogger("chatsession")

_TRY_AGAIN_AFTER = 1.0

_NAMED = {"$ifNull": ["$updateDescription.updatedFields.wake", "$fullDocument.wake"]}
WAKE_EVENTS: list[Mapping[str, Any]] = [
    {"$match": {"operationType": {"$in": ["update", "replace"]}}},
    {"$project": {"wake": _NAMED}},
    {"$match": {"wake": {"$type": "string"}}},
]
"""Lets only those changes through that name the next waiter."""


class Wakeups:
    """Lets waiters sleep until a change to a session names them.

    Args:
        watch: opens the change stream.
    """

    def __init__(self, watch: Callable[[], Awaitable[AsyncChangeStream[Any]]]) -> None:
        self._watch = watch
        self._waiters = WaiterRegistry()
        self._listener: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    @property
    def listening(self) -> bool:
        """Whether a waiter will be woken."""
        return self._ready.is_set()

    async def wait(self, waiter: str, seconds: float) -> None:
        """Return when this waiter is woken, or when the time is over; the first one starts to listen."""
        if self._listener is None:
            # A fresh context: the bound of the call that happens to be the first does not concern the stream.
            self._listener = asyncio.create_task(
                self._listen(), name="chatsession: wake-ups from MongoDB", context=contextvars.Context()
            )
        await self._waiters.wait(waiter, seconds)

    async def stop(self) -> None:
        """Stop listening."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.cancel()
            await asyncio.wait([listener])

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
                self._waiters.wake(wake_token(event["wake"]))

"""Combines concurrent calls to one storage into one call.

The next batch is sent when the one before it has returned, or immediately if the storage is idle: a single call waits
for nothing, and under load batches grow to what the storage needs.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, TypeVar, cast

from msgspec import Struct

from chatsession.errors import SessionError, StorageUnavailableError

_log = logging.getLogger("chatsession")

Item = TypeVar("Item")
Result = TypeVar("Result")


class UncancellableFuture(asyncio.Future[None]):
    """The end of a call that is never abandoned half-way.

    A task that is cancelled while it awaits this gets its `CancelledError` once the outcome is known: whether a lock
    was granted or a commit was made is never in doubt. Storages bound the time their calls take.
    """

    def cancel(self, msg: object = None) -> bool:
        # `Task.cancel` asks this first; on `False` it delivers the cancellation when the call is done.
        return False


class Batch(Struct, Generic[Item, Result], eq=False):
    """Items of different keys in one call. Whoever adds an item awaits `done`, then reads its `result`."""

    done: UncancellableFuture
    items: dict[str, Item] = {}
    results: dict[str, Result | SessionError] = {}
    failure: BaseException | None = None

    def result(self, key: str) -> Result:
        """The result of the item of this key. Raises the item's error, or that of the whole call."""
        if self.failure is not None:
            raise again(self.failure)
        result = self.results[key]
        if isinstance(result, SessionError):
            raise result
        return result


class Batcher(Generic[Item, Result]):
    """Gathers items of one kind of call.

    Args:
        call: called with items of different keys; returns their results in the same order.
        size: the largest number of items in a batch.
        in_flight: the largest number of batches under way at the same time.
    """

    __slots__ = ("_call", "_in_flight", "_scheduled", "_size", "_under_way", "_waiting")

    def __init__(
        self,
        call: Callable[[list[Item]], Coroutine[Any, Any, Sequence[Result | SessionError]]],
        *,
        size: int,
        in_flight: int,
    ) -> None:
        self._call = call
        self._size = size
        self._in_flight = in_flight
        self._waiting: deque[Batch[Item, Result]] = deque()
        self._under_way: dict[Batch[Item, Result], asyncio.Future[Sequence[Result | SessionError]]] = {}
        self._scheduled = False
        """`_send` is about to be called."""

    async def drain(self) -> None:
        """Wait until nothing is waiting or under way."""
        while batches := [*self._waiting, *self._under_way]:
            await asyncio.wait([batch.done for batch in batches])

    def add(self, key: str, item: Item) -> Batch[Item, Result]:
        """Put an item into the next batch that has none of its key, and return that batch."""
        batch: Batch[Item, Result]
        for batch in self._waiting:  # nearly always one or none
            if key not in batch.items and len(batch.items) < self._size:
                break
        else:
            batch = Batch(UncancellableFuture(loop=asyncio.get_running_loop()))
            self._waiting.append(batch)
        batch.items[key] = item
        if not self._scheduled and len(self._under_way) < self._in_flight:
            self._scheduled = True  # others may join the batch until the next turn of the loop
            batch.done.get_loop().call_soon(self._send)
        return batch

    def _send(self) -> None:
        """Send what waits, in as many calls as may be under way."""
        self._scheduled = False
        while self._waiting and len(self._under_way) < self._in_flight:
            batch = self._waiting.popleft()
            call = asyncio.Task(self._call(list(batch.items.values())))
            # asyncio.run() may close the loop in the middle of a call: that task is none of its program's.
            cast("Any", call)._log_destroy_pending = False
            self._under_way[batch] = call
            call.add_done_callback(partial(self._answered, batch))

    def _answered(self, batch: Batch[Item, Result], call: asyncio.Future[Sequence[Result | SessionError]]) -> None:
        """The call has returned, or failed for all items."""
        del self._under_way[batch]
        if self._waiting:  # before those who wait for this batch run: the storage works meanwhile
            self._send()
        try:
            results = call.result()
            if len(results) != len(batch.items):
                raise RuntimeError("the storage did not answer every item of a call")
            batch.results = dict(zip(batch.items, results, strict=True))
        except asyncio.CancelledError:  # only when the event loop is torn down
            batch.failure = StorageUnavailableError(
                "the event loop was stopped in the middle of a call; its outcome is unknown"
            )
        except Exception as failure:
            batch.failure = failure
        batch.done.set_result(None)


def again(failure: BaseException) -> BaseException:
    """A copy to raise: one exception raised in many tasks would gather all their tracebacks."""
    copied = copy.copy(failure)
    copied.__cause__ = failure
    return copied


def log_failure(batch: Batch[Any, Any], key: str) -> None:
    """Log that a lock could not be released, where the result is not awaited."""
    try:
        batch.result(key)
    except Exception as error:
        _log.warning("a session lock could not be given back, it will run out by itself: %s", error)

"""Combines concurrent calls to one storage into one call.

The next batch is sent when the one before it has returned, or immediately if the storage is idle: a single call waits
for nothing, and under load batches grow to what the storage needs.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, cast

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


class Batch(Generic[Item, Result]):
    """Items of different keys in one call. Whoever adds an item awaits `done`, then reads its `result`."""

    __slots__ = ("_failure", "_results", "done", "items")

    def __init__(self) -> None:
        self.done: UncancellableFuture = UncancellableFuture(loop=asyncio.get_running_loop())
        self.items: dict[str, Item] = {}
        self._results: Sequence[Result | SessionError] = ()
        self._failure: BaseException | None = None

    def result(self, place: int) -> Result:
        """The result of the item in this place. Raises the item's error, or that of the whole call."""
        if self._failure is not None:
            raise again(self._failure)
        result = self._results[place]
        if isinstance(result, SessionError):
            raise result
        return result

    def settle(self, results: Sequence[Result | SessionError]) -> None:
        """The call has returned."""
        if len(results) == len(self.items):
            self._results = results
            self.done.set_result(None)
        else:
            self.fail(RuntimeError("the storage did not answer every item of a call"))

    def fail(self, failure: BaseException) -> None:
        """The call has failed for all items."""
        self._failure = failure
        self.done.set_result(None)


class Batcher(Generic[Item, Result]):
    """Gathers items of one kind of call.

    Args:
        call: called with items of different keys; returns their results in the same order.
        size: the largest number of items in a batch.
        in_flight: the largest number of batches under way at the same time.
    """

    __slots__ = ("_call", "_in_flight", "_runners", "_size", "_starting", "_waiting")

    def __init__(
        self,
        call: Callable[[list[Item]], Awaitable[Sequence[Result | SessionError]]],
        *,
        size: int,
        in_flight: int,
    ) -> None:
        self._call = call
        self._size = size
        self._in_flight = in_flight
        self._waiting: deque[Batch[Item, Result]] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._starting = False

    async def drain(self) -> None:
        """Wait until nothing is waiting or under way."""
        while self._runners:
            await asyncio.wait(self._runners)

    def add(self, key: str, item: Item) -> tuple[Batch[Item, Result], int]:
        """Put an item into the next batch that has none of its key, and return that batch and the item's place."""
        batch: Batch[Item, Result]
        for batch in self._waiting:  # nearly always one or none
            if key not in batch.items and len(batch.items) < self._size:
                break
        else:
            batch = Batch()
            self._waiting.append(batch)
        batch.items[key] = item
        if not self._starting and len(self._runners) < self._in_flight:
            self._start()
        return batch, len(batch.items) - 1

    def _start(self) -> None:
        # A task begins in the next turn of the loop: others may join the batch until then. One that the loop's task
        # factory makes may begin at once (`asyncio.eager_task_factory`), with a batch of one.
        self._starting = True
        runner = asyncio.Task(self._run(), loop=asyncio.get_running_loop())
        # asyncio.run() may close the loop in the middle of a call: that task is none of its program's.
        cast("Any", runner)._log_destroy_pending = False
        self._runners.add(runner)
        runner.add_done_callback(self._ended)

    async def _run(self) -> None:
        """Send what waits, one batch after another, for as long as there is any."""
        self._starting = False
        while self._waiting:
            batch = self._waiting.popleft()
            try:
                results = await self._call(list(batch.items.values()))
            except asyncio.CancelledError:  # only when the event loop is torn down
                batch.fail(
                    StorageUnavailableError(
                        "the event loop was stopped in the middle of a call; its outcome is unknown"
                    )
                )
                raise
            except Exception as failure:
                batch.fail(failure)
            else:
                batch.settle(results)

    def _ended(self, runner: asyncio.Task[None]) -> None:
        self._runners.discard(runner)
        if runner.cancelled():
            self._starting = False  # it may have been cancelled before it began
        if self._waiting and not self._starting and len(self._runners) < self._in_flight:
            self._start()


def again(failure: BaseException) -> BaseException:
    """A copy to raise: one exception raised in many tasks would gather all their tracebacks."""
    copied = copy.copy(failure)
    copied.__cause__ = failure
    return copied


def log_failure(batch: Batch[Any, Any], place: int) -> None:
    """Log that a lock could not be released, where the result is not awaited."""
    try:
        batch.result(place)
    except Exception as error:
        _log.warning("a session lock could not be given back, it will run out by itself: %s", error)

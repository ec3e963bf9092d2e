"""Concurrent calls to one storage become one call.

The next batch goes out when the one before it has returned, or at once when the storage is idle: a lone call waits
for nothing, and under load batches grow by themselves to what the storage needs.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from chatsession.errors import SessionError, StorageUnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Call(asyncio.Future[Result]):
    """The result of a call that is never abandoned half-way.

    A task that is cancelled while it awaits a call gets its `CancelledError` once the outcome is known: whether a
    lock was granted or a commit was made is never in doubt. Storages bound the time their calls take.
    """

    def cancel(self, msg: object = None) -> bool:
        # `Task.cancel` asks this first; on `False` it delivers the cancellation when the call is done.
        return False


class Batches(Generic[Item, Result]):
    """Gathers items of one kind of call.

    Args:
        call: takes items and returns their results in the same order.
        key: what must not occur twice in one batch; the second item of a key waits for the next.
        size: the most items that one batch has.
        in_flight: the most batches that are under way at the same time.
    """

    __slots__ = ("_call", "_in_flight", "_key", "_running", "_scheduled", "_size", "_waiting")

    def __init__(
        self,
        call: Callable[[list[Item]], Awaitable[Sequence[Result | SessionError]]],
        *,
        key: Callable[[Item], str],
        size: int,
        in_flight: int,
    ) -> None:
        self._call = call
        self._key = key
        self._size = size
        self._in_flight = in_flight
        self._waiting: deque[tuple[Item, Call[Result]]] = deque()
        self._scheduled = False
        self._running: set[asyncio.Task[Sequence[Result | SessionError]]] = set()

    async def drain(self) -> None:
        """Wait until nothing is waiting or under way."""
        while self._running or self._waiting:
            await (asyncio.wait(self._running) if self._running else asyncio.sleep(0))

    def submit(self, item: Item) -> Call[Result]:
        """Put an item into the next batch. The call must be awaited, or its outcome looked at in a callback."""
        loop = asyncio.get_running_loop()
        call: Call[Result] = Call(loop=loop)
        self._waiting.append((item, call))
        if not self._scheduled and len(self._running) < self._in_flight:
            self._scheduled = True
            loop.call_soon(self._start)  # at the end of this turn of the loop: others may join until then
        return call

    def _start(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._running) < self._in_flight:
            batch = self._next_batch()
            task = asyncio.get_running_loop().create_task(self._send([item for item, _ in batch]))
            self._running.add(task)
            task.add_done_callback(functools.partial(self._settle, batch))

    async def _send(self, items: list[Item]) -> Sequence[Result | SessionError]:
        return await self._call(items)

    def _next_batch(self) -> list[tuple[Item, Call[Result]]]:
        batch: dict[str, tuple[Item, Call[Result]]] = {}
        postponed: list[tuple[Item, Call[Result]]] = []
        while self._waiting and len(batch) < self._size:
            entry = self._waiting.popleft()
            if batch.setdefault(self._key(entry[0]), entry) is not entry:
                postponed.append(entry)
        self._waiting.extendleft(reversed(postponed))
        return list(batch.values())

    def _settle(
        self,
        batch: list[tuple[Item, Call[Result]]],
        task: asyncio.Task[Sequence[Result | SessionError]],
    ) -> None:
        self._running.discard(task)
        self._start()
        if task.cancelled():  # only a loop that is being torn down does that
            failure: BaseException | None = StorageUnavailableError(
                "the event loop was stopped in the middle of a call; its outcome is unknown"
            )
        else:
            failure = task.exception()
        if failure is not None:
            for _, call in batch:
                call.set_exception(_own_copy(failure))
            return
        for (_, call), result in zip(batch, task.result(), strict=True):
            if isinstance(result, SessionError):
                call.set_exception(result)
            else:
                call.set_result(result)


def _own_copy(failure: BaseException) -> BaseException:
    """One exception raised in many tasks would gather all their tracebacks."""
    own = copy.copy(failure)
    own.__cause__ = failure
    return own

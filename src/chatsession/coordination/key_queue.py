"""The queue of each key within this process: its updates run one after another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from chatsession.coordination.circles import Wait
from chatsession.errors import SessionError, SessionLockTimeoutError

Handover = TypeVar("Handover")

_SECOND_LOOK = 1.0
"""Seconds after which a waiter checks again for a deadlock."""


class KeyQueue(Generic[Handover]):
    """First come, first served, for each key. A free key takes no memory.

    The holder of a key releases it to the waiter that has waited longest, together with a handover that saves the next
    holder a trip to the storage.

    Args:
        unclaimed: called with a handover whose waiter was cancelled, if there is no other waiter.
    """

    __slots__ = ("_holders", "_queues", "_unclaimed", "progress", "watched")

    def __init__(self, unclaimed: Callable[[Handover], object]) -> None:
        self._unclaimed = unclaimed
        self._holders: dict[str, asyncio.Task[object] | None] = {}
        self._queues: dict[str, deque[_Waiter[Handover]]] = {}
        self.progress: dict[str, float] = {}
        """When each key that has waiters last made progress, by the event loop's clock."""
        self.watched: set[str] = set()
        """Keys whose holder waits for another process, and calls `looked` as long as it does."""

    def __len__(self) -> int:
        """How many keys are held."""
        return len(self._holders)

    def try_enter(self, key: str, task: asyncio.Task[object] | None) -> bool:
        """Hold the key, if it is free."""
        if key in self._holders:
            return False
        self._holders[key] = task
        return True

    def has_waiters(self, key: str) -> bool:
        """Whether there are waiters for this key in this process."""
        return key in self._queues

    def holder(self, key: str) -> asyncio.Task[object] | None:
        """The task that holds the key, if it is known."""
        return self._holders.get(key)

    async def wait(self, key: str, timeout: float | None) -> Handover | None:
        """Wait for the key. A waiter that is cancelled or times out leaves the queue.

        Args:
            key: one that `try_enter` refused.
            timeout: seconds for which the key may make no progress; `None`: for ever.

        Raises:
            SessionError: the holder of the key waits for this task, so that both would wait for ever.
            SessionLockTimeoutError: the key made no progress for `timeout` seconds.
        """
        task = asyncio.current_task()
        wait = Wait(task, self, key)
        if wait.closes_a_circle():
            raise _circle(key, same=self._holders[key] is task)
        waiter = _Waiter(self, key, wait, timeout)
        self._queues.setdefault(key, deque()).append(waiter)
        entered = waiter.entered
        try:
            handover = await entered
        except BaseException:
            if entered.done() and not entered.cancelled() and entered.exception() is None:
                handover = entered.result()
                if not self.release(key, handover) and handover is not None:
                    self._unclaimed(handover)
            else:
                self._leave(key, waiter)
            raise
        finally:
            waiter.stop()
            wait.end()
        self._holders[key] = task
        return handover

    def release(self, key: str, handover: Handover | None = None) -> bool:
        """Pass the key and the handover to the waiter that has waited longest; `False` if there is none."""
        queue = self._queues.get(key)
        while queue:
            entered = queue.popleft().entered
            if not queue:
                del self._queues[key]
                self.progress.pop(key, None)
            if not entered.done():
                self._holders[key] = None  # until the waiter wakes up and sets itself
                if queue:
                    self.progress[key] = asyncio.get_running_loop().time()
                entered.set_result(handover)
                return True
        del self._holders[key]
        return False

    def reassign(self, key: str, task: asyncio.Task[object] | None) -> None:
        """Let another task hold the key, so that the task that held it may wait for the key again."""
        if key in self._holders:
            self._holders[key] = task

    def looked(self, key: str, *, progressed: bool) -> None:
        """End waits for a watched key that last too long; `progressed`: another process has changed the session."""
        if progressed and key in self._queues:
            self.progress[key] = asyncio.get_running_loop().time()
        for waiter in self._queues.get(key, ()):
            waiter.give_up_if_late()

    def _leave(self, key: str, waiter: _Waiter[Handover]) -> None:
        queue = self._queues.get(key)
        if queue is None or waiter not in queue:
            return
        queue.remove(waiter)
        if not queue:
            del self._queues[key]
            self.progress.pop(key, None)


class _Waiter(Generic[Handover]):
    """A wait for a key, which ends if the key makes no progress."""

    __slots__ = ("_key", "_queue", "_since", "_timeout", "_timer", "_wait", "entered")

    def __init__(self, queue: KeyQueue[Handover], key: str, wait: Wait, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self.entered: asyncio.Future[Handover | None] = loop.create_future()
        self._queue = queue
        self._key = key
        self._wait = wait
        self._timeout = timeout
        self._since = loop.time()
        first = _SECOND_LOOK if timeout is None else min(timeout, _SECOND_LOOK)
        self._timer: asyncio.TimerHandle = loop.call_later(first, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def give_up_if_late(self) -> float:
        """End the wait if it is time. Returns the seconds that are left."""
        if self._timeout is None or self.entered.done():
            return 0
        progress = max(self._since, self._queue.progress.get(self._key, 0.0))
        left = progress + self._timeout - asyncio.get_running_loop().time()
        if left <= 0:
            self.entered.set_exception(_timed_out(self._key, self._timeout))
        return left

    def _look(self) -> None:
        if self.entered.done():
            return
        if self._wait.closes_a_circle():
            self.entered.set_exception(_circle(self._key, same=False))
            return
        if self._timeout is None:
            return
        loop = asyncio.get_running_loop()
        if self._key in self._queue.watched:  # the watcher ends the wait
            self._timer = loop.call_later(min(self._timeout, _SECOND_LOOK), self._look)
        elif (left := self.give_up_if_late()) > 0:
            self._timer = loop.call_later(left, self._look)


def _circle(key: str, *, same: bool) -> SessionError:
    if same:
        return SessionError(
            "this task or thread has it open already, and opening it again would wait for ever; "
            "use the session that is open, or end it first; a task that runs the handlers of several updates runs each "
            "update as a whole, with its commit, or calls release_session() at the end of each handler",
            key=key,
        )
    return SessionError(
        "the task or thread that has it open waits for this one, and both would wait for ever; "
        "use the session that is open, or end it first, and open several sessions with open_many()",
        key=key,
    )


def _timed_out(key: str, timeout: float) -> SessionLockTimeoutError:
    return SessionLockTimeoutError(
        f"another update held it for longer than lock_timeout ({timeout:g} s); "
        "let long handlers call release_session(), or raise lock_timeout",
        key=key,
    )

"""One update after the other for each key, within this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from chatsession.errors import SessionError, SessionLockTimeoutError

Handover = TypeVar("Handover")


class KeyQueue(Generic[Handover]):
    """First come, first served, for each key; a key that nobody holds leaves nothing behind.

    Whoever ends a turn passes it to the one that has waited longest, together with a handover: what the next one would
    otherwise have to fetch anew.

    Args:
        left_over: takes a key's handover that found nobody.
    """

    __slots__ = ("_holders", "_left_over", "_queues")

    def __init__(self, left_over: Callable[[str, Handover], object]) -> None:
        self._left_over = left_over
        self._holders: dict[str, asyncio.Task[object] | None] = {}
        self._queues: dict[str, deque[asyncio.Future[Handover | None]]] = {}

    def __len__(self) -> int:
        """How many keys are held."""
        return len(self._holders)

    def try_enter(self, key: str, task: asyncio.Task[object] | None) -> bool:
        """Take the turn at once if nobody has it."""
        if key in self._holders:
            return False
        self._holders[key] = task
        return True

    def has_waiters(self, key: str) -> bool:
        """Does anybody here wait for this key?"""
        return key in self._queues

    async def wait(self, key: str, timeout: float) -> Handover | None:
        """Wait for the turn; cancelled or timed out, it goes to the next one.

        Args:
            key: one that `try_enter` refused.
            timeout: seconds.

        Raises:
            SessionError: this task holds the key itself and would wait for ever (rule 15).
            SessionLockTimeoutError: the wait took longer than `timeout`.
        """
        task = asyncio.current_task()
        if self._holders[key] is task:
            raise SessionError(
                "this task has it open already, and opening it again would wait for ever; "
                "use the session that is open, or end it first",
                key=key,
            )
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Handover | None] = loop.create_future()
        self._queues.setdefault(key, deque()).append(turn)
        alarm = loop.call_later(timeout, _expire, turn, key, timeout)
        try:
            handover = await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(key, turn.result())
            else:
                self._give_up(key, turn)
            raise
        finally:
            alarm.cancel()
        self._holders[key] = task
        return handover

    def release(self, key: str, handover: Handover | None = None) -> None:
        """End the turn; the one who waits longest has it now, and the handover."""
        queue = self._queues.get(key)
        while queue:
            turn = queue.popleft()
            if not queue:
                del self._queues[key]
            if not turn.done():
                self._holders[key] = None  # until the next one wakes up, which enters itself
                turn.set_result(handover)
                return
        del self._holders[key]
        if handover is not None:
            self._left_over(key, handover)

    def reassign(self, key: str, task: asyncio.Task[object] | None) -> None:
        """The turn belongs to another task now: the one that had it may ask for the key anew, and wait for it."""
        if key in self._holders:
            self._holders[key] = task

    def _give_up(self, key: str, turn: asyncio.Future[Handover | None]) -> None:
        queue = self._queues.get(key)
        if queue is None or turn not in queue:
            return
        queue.remove(turn)
        if not queue:
            del self._queues[key]


def _expire(turn: asyncio.Future[Any], key: str, timeout: float) -> None:
    if not turn.done():
        turn.set_exception(
            SessionLockTimeoutError(
                f"another update held it for longer than lock_timeout ({timeout:g} s); "
                "let long handlers call release_session(), or raise lock_timeout",
                key=key,
            )
        )

"""Calls that threads make in the event loop. All calls of one thread run in one task."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeAlias

from chatsession.errors import SessionClosedError
from chatsession.observing import SessionEvent

_log = logging.getLogger("chatsession")

Observer: TypeAlias = Callable[[SessionEvent], object]


class Call:
    """A call of an async function by a thread, and its outcome."""

    __slots__ = ("arguments", "error", "finished", "function", "lock", "observed", "result")

    def __init__(self, function: Callable[..., Coroutine[Any, Any, Any]], arguments: tuple[Any, ...]) -> None:
        self.function: Callable[..., Coroutine[Any, Any, Any]] = function
        self.arguments: tuple[Any, ...] = arguments
        self.result: Any = None
        self.error: BaseException | None = None
        self.observed: list[tuple[Observer, SessionEvent]] = []
        """What the observers must be told in the calling thread."""
        self.finished: bool = False
        self.lock: threading.Lock = threading.Lock()
        """Held until the call is finished."""
        self.lock.acquire()

    def finish(self) -> None:
        """Let the thread go on."""
        self.finished = True
        self.lock.release()

    def fail(self, error: BaseException) -> None:
        """Let the thread go on with an error."""
        self.error = error
        self.finish()

    def outcome(self) -> Any:
        """Tell the observers, and return the result or raise the error; called in the thread that made the call."""
        for observe, event in self.observed:
            _tell(observe, event)
        if self.error is None:
            return self.result
        try:
            raise self.error
        finally:
            self.error = None  # its traceback refers to this frame, and the frame would refer to the error


class CallerTask:
    """Makes the calls of one thread in one task, so that the core knows which thread holds a key or waits for it.

    Used in the event loop only.
    """

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._current: Call | None = None
        self._more: asyncio.Future[None] | None = None
        """Completed when there is another call to make."""
        self._interrupted = False
        """The current call is being cancelled."""
        self._ended = ""
        """Why no further call is made."""
        self._task: asyncio.Task[None] | None = None

    def take(self, call: Call) -> None:
        """Make a call after the earlier ones."""
        if self._ended:
            call.fail(SessionClosedError(self._ended))
            return
        self._calls.append(call)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._make_calls())
        elif self._more is not None:
            self._more.set_result(None)
            self._more = None

    def cancel(self, call: Call) -> None:
        """Cancel a call, unless it is finished."""
        if call is self._current and self._task is not None:
            self._interrupted = True
            self._task.cancel()
        elif not call.finished:
            if call in self._calls:
                self._calls.remove(call)
            call.fail(asyncio.CancelledError())

    def end(self, why: str) -> asyncio.Task[None] | None:
        """Cancel all calls, and refuse further ones. Returns the task to wait for."""
        self._ended = why
        if self._task is not None:
            self._task.cancel()
        return self._task

    async def _make_calls(self) -> None:
        loop, calls = asyncio.get_running_loop(), self._calls
        observed: list[tuple[Observer, SessionEvent]] = []
        _observed.set(observed)
        while not self._ended:
            while not calls:  # the call that completed `_more` may have been cancelled since
                self._more = loop.create_future()
                await self._more
            call = self._current = calls.popleft()
            try:
                call.result = await call.function(*call.arguments)
            except BaseException as error:
                call.error = error
            self._current = None
            if observed:
                call.observed = observed.copy()
                observed.clear()
            if self._interrupted:
                self._forget_interruption()
            if self._ended and isinstance(call.error, asyncio.CancelledError):
                call.error = SessionClosedError(self._ended)
            call.finish()
        while calls:
            calls.popleft().fail(SessionClosedError(self._ended))

    def _forget_interruption(self) -> None:
        """Keep the cancellation of this call from the next one."""
        self._interrupted = False
        while self._task is not None and self._task.uncancel():
            pass


_observed: ContextVar[list[tuple[Observer, SessionEvent]]] = ContextVar("observed")


def in_callers_thread(observe: Observer) -> Observer:
    """The observer, called in the thread that uses the session, where it may block."""

    def note(event: SessionEvent) -> None:
        observed = _observed.get(None)
        if observed is None:
            observe(event)
        else:
            observed.append((observe, event))

    return note


def _tell(observe: Observer, event: SessionEvent) -> None:
    try:
        observe(event)
    except Exception:
        _log.exception("the observer of sessions failed; the session itself is not affected")

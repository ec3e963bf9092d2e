"""One event loop in a thread of the library, in which all threads of the process make their asynchronous calls.

A thread waits for its call on a lock. One wake-up of the loop serves all calls that have arrived by then.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar, TypeVarTuple

from chatsession.errors import SessionClosedError, SessionError
from chatsession.sync._calls import Call, CallerTask

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_EXIT_TIMEOUT = 10.0
"""Seconds that the end of the process waits for the storages to be closed."""

_CLOSED = "its manager was closed before the session ended, and what was not committed by then is lost"
_FORKED = "it was opened in the process from which this one was forked, where its lock is; open it here"
_EXITING = "the process is ending, and its storages are closed; use sessions before that"


def check_may_block() -> None:
    """Raises `SessionError` in a thread that runs an event loop."""
    if asyncio._get_running_loop() is not None:
        raise SessionError(
            "chatsession.sync would block the event loop that runs in this thread; use chatsession.SessionManager "
            "here, with `async with` and `await`, or call this in another thread, as by asyncio.to_thread() "
            "(migrations, `merge` and codecs run in a loop of the library, and cannot use sessions)"
        )


class LoopUser(Protocol):
    """Something that needs the loop until it is closed."""

    async def aclose(self, timeout: float) -> None:
        """Disconnect. Sessions that are still open after `timeout` seconds are lost."""
        ...


class LoopThread:
    """An event loop in a daemon thread, and the calls that other threads make in it.

    Args:
        loop: a new event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: str = ""
        """Why no further call is made; empty while the loop runs."""
        self.users: set[LoopUser] = set()
        """They are closed when the loop ends."""
        self._pending: deque[tuple[CallerTask, Call | None]] = deque()
        self._awake = False
        """The loop is about to take what is pending."""
        self._local = threading.local()
        self._callers: set[CallerTask] = set()
        self._spawned: set[asyncio.Task[object]] = set()
        self._loop = loop
        self._end: asyncio.Future[None] = loop.create_future()
        # A daemon, so that a process which does not close its managers can exit.
        self._thread = threading.Thread(target=self._run, name="chatsession", daemon=True)

    # In any thread.

    def start(self) -> None:
        """Run the loop."""
        try:
            self._thread.start()
        except RuntimeError as error:
            self._loop.close()
            raise SessionClosedError(f"the thread of chatsession.sync cannot be started: {error}") from error

    def call(self, function: Callable[[*Arguments], Coroutine[Any, Any, T]], *arguments: *Arguments) -> T:
        """Run an async function in the loop, and wait until it has ended.

        An exception that a signal handler raises meanwhile, such as `KeyboardInterrupt`, cancels the function, and is
        raised once that has ended.

        Raises:
            SessionError: this thread runs an event loop, which would be blocked.
            SessionClosedError: the loop has ended.
        """
        check_may_block()
        try:
            caller: CallerTask = self._local.presence.caller
        except AttributeError:
            presence = self._local.presence = _Presence(self)
            caller = presence.caller
        call = Call(function, arguments)
        posted = False
        interrupt: BaseException | None = None
        while not call.finished:
            try:
                if interrupt is not None:
                    self.call_soon(partial(self._cancel, caller, call))
                elif not posted:
                    posted = True
                    self.post(caller, call)
                call.lock.acquire()
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt
        return call.outcome()

    def post(self, caller: CallerTask, call: Call | None) -> None:
        """Hand a call to the loop; `None`: the caller's thread has ended."""
        self._pending.append((caller, call))
        if self.ended:
            self._refuse_pending()
        elif not self._awake:
            self._awake = True
            self.call_soon(self._take_pending)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call a function in the loop, unless the loop has ended."""
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop was closed just now
            self._refuse_pending()

    def spawn(self, function: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run an async function in the loop, unless the loop has ended, without waiting for it."""
        if not self.ended:
            self.call_soon(partial(self._spawn, function))

    def end(self, why: str, timeout: float | None = None) -> None:
        """Cancel all calls, close the users, and wait until the thread has ended.

        Args:
            why: the message of the error that later calls raise.
            timeout: seconds to wait; `None`: without limit.
        """
        self.ended = why
        self.call_soon(partial(self._end.set_result, None))
        self._thread.join(timeout)

    def _refuse_pending(self) -> None:
        while True:
            try:
                _, call = self._pending.popleft()
            except IndexError:
                return
            if call is not None:
                call.fail(SessionClosedError(self.ended))

    # In its thread.

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._until_ended())
        except RuntimeError:  # Python 3.12 needs one more thread to shut down the loop's executor, and refuses it
            if self.ended != _EXITING:
                raise
        self._refuse_pending()

    async def _until_ended(self) -> None:
        await self._end
        ending = [task for caller in self._callers if (task := caller.end(self.ended)) is not None]
        if ending or self._spawned:
            await asyncio.wait({*ending, *self._spawned})
        await asyncio.gather(*(user.aclose(0.0) for user in self.users), return_exceptions=True)

    def _take_pending(self) -> None:
        self._awake = False  # first, so that whatever is added after the last look wakes the loop again
        if self.ended:
            self._refuse_pending()
        pending = self._pending
        while pending:
            caller, call = pending.popleft()
            if call is not None:
                self._callers.add(caller)
                caller.take(call)
            else:
                self._callers.discard(caller)
                caller.end(_CLOSED)

    def _cancel(self, caller: CallerTask, call: Call) -> None:
        self._take_pending()  # the call may be there still: its thread may be interrupted before it wakes the loop
        caller.cancel(call)

    def _spawn(self, function: Callable[[], Coroutine[Any, Any, object]]) -> None:
        task = self._loop.create_task(function())
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)


class _Presence:
    """Belongs to the local storage of a thread, and is deleted with it when the thread ends."""

    def __init__(self, loop_thread: LoopThread) -> None:
        self._loop_thread = loop_thread
        self.caller = CallerTask()

    def __del__(self) -> None:
        if not self._loop_thread.ended:
            self._loop_thread.post(self.caller, None)


class _Process:
    """What a process has of its own. A forked child begins with a new one."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # reentrant, since signal handlers and `__del__` may use sessions, too
        self.loop_thread: LoopThread | None = None
        self.exiting = False


_process = _Process()
_inherited: list[LoopThread] = []
"""Of the parent process. Deleting one would disturb the parent's loop, with which it shares a selector."""


def join_loop(user: LoopUser) -> LoopThread:
    """The loop of this process, which runs until all its users have left.

    Raises:
        SessionError: an event loop runs in this thread.
        SessionClosedError: the process is ending.
    """
    check_may_block()
    process = _process
    with process.lock:
        if process.exiting:
            raise SessionClosedError(_EXITING)
        if process.loop_thread is None:
            loop_thread = LoopThread(asyncio.new_event_loop())
            loop_thread.start()
            process.loop_thread = loop_thread
        process.loop_thread.users.add(user)
        return process.loop_thread


def leave_loop(user: LoopUser) -> None:
    """A user is closed. The loop and its thread end with the last one."""
    check_may_block()
    process = _process
    with process.lock:
        loop_thread = process.loop_thread
        if loop_thread is None:
            return
        loop_thread.users.discard(user)
        if not loop_thread.users:
            process.loop_thread = None
            loop_thread.end(_CLOSED)


def _at_exit() -> None:
    _process.exiting = True
    loop_thread, _process.loop_thread = _process.loop_thread, None
    if loop_thread is not None:
        loop_thread.end(_EXITING, _EXIT_TIMEOUT)


def _after_fork_in_child() -> None:
    global _process
    inherited, _process = _process.loop_thread, _Process()
    if inherited is not None:
        inherited.ended = _FORKED
        _inherited.append(inherited)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""`async with` blocks that threads enter and leave."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar
from weakref import ReferenceType, ref

from chatsession.errors import SessionClosedError
from chatsession.sync.loop_thread import LoopThread

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


class AsyncBlock(Protocol[V_co]):
    """What `async with` takes. Leaving it once more because of an error must change nothing."""

    def __aenter__(self) -> Coroutine[Any, Any, V_co]: ...

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: None, /
    ) -> Coroutine[Any, Any, object]: ...


class Block(Generic[V]):
    """A `with` block that enters and leaves an `async with` block in the event loop of the library.

    Args:
        block: the asynchronous one.
        join: gives the loop in which it is to be entered.
        key: of the session, for messages; `None` where there are several.
    """

    __slots__ = ("__weakref__", "_block", "_join", "_key", "_loop_thread", "_watch")

    def __init__(self, block: AsyncBlock[V], join: Callable[[], LoopThread], key: str | None = None) -> None:
        self._block = block
        self._join = join
        self._key = key
        self._loop_thread: LoopThread | None = None
        """`None` before it is entered, and after it was left."""
        self._watch: ReferenceType[Block[V]] | None = None

    def __enter__(self) -> V:
        """Enter it. If that fails or is interrupted, nothing is left open."""
        if self._loop_thread is not None:
            raise SessionClosedError("this session is open already; open another", key=self._key)
        loop_thread, block = self._join(), self._block
        # An interrupt may come between any two steps, and a generator may be abandoned inside its block. `__del__`
        # would do, but would run for each block, and Python drops an interrupt that comes meanwhile.
        self._watch = ref(self, lambda watch: _abandoned(watch, loop_thread, block))
        _open.add(self._watch)
        self._loop_thread = loop_thread
        try:
            return loop_thread.call(block.__aenter__)
        except BaseException:
            self._abort()
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Commit, or abort because of an error."""
        if kind is not None:
            self._abort()
            return
        try:
            self.opened_in().call(self._block.__aexit__, None, None, None)
        except BaseException:
            self._abort()  # an interrupt may have come before the commit began
            raise
        self._left()

    def opened_in(self) -> LoopThread:
        """The loop in which the block is open.

        Raises:
            SessionClosedError: it is not open, or not in this process.
        """
        if self._loop_thread is None:
            raise SessionClosedError(
                "the session is used outside of its `with` block, where a change would be lost; open it to use it",
                key=self._key,
            )
        if self._loop_thread.ended:
            raise SessionClosedError(self._loop_thread.ended, key=self._key)
        return self._loop_thread

    def _abort(self) -> None:
        if self._loop_thread is not None and not self._loop_thread.ended:
            with contextlib.suppress(SessionClosedError):  # the loop ended meanwhile, and with it the session
                self._loop_thread.call(_abort, self._block)
        self._left()

    def _left(self) -> None:
        self._loop_thread = None
        if self._watch is not None:
            _open.discard(self._watch)
            self._watch = None  # without which the block may be deleted


_open: set[ReferenceType[Block[Any]]] = set()


def _abandoned(watch: ReferenceType[Block[Any]], loop_thread: LoopThread, block: AsyncBlock[Any]) -> None:
    """A block was deleted while it was open: give its locks back."""
    _open.discard(watch)
    loop_thread.spawn(lambda: _abort(block))


async def _abort(block: AsyncBlock[Any]) -> None:
    await block.__aexit__(SessionClosedError, SessionClosedError("its block failed"), None)

"""`async with` blocks that threads enter and leave."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, Protocol, TypeVar
from weakref import finalize

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
        block: the asynchronous block.
        join: returns the event loop to enter it in.
        key: the key of the session, for messages; `None` if there are several.
    """

    __slots__ = ("__weakref__", "_block", "_if_deleted", "_join", "_key", "_loop_thread")

    def __init__(self, block: AsyncBlock[V], join: Callable[[], LoopThread], key: str | None = None) -> None:
        self._block = block
        self._join = join
        self._key = key
        self._loop_thread: LoopThread | None = None
        """The loop in which the block is open; `None` while it is not."""
        self._if_deleted: finalize[Any, Block[V]] | None = None
        """Releases the locks of a block that is deleted while it is open."""

    def __enter__(self) -> V:
        """Enter the block. If that fails or is interrupted, nothing stays open."""
        if self._loop_thread is not None:
            raise SessionClosedError("this session is open already; open another", key=self._key)
        loop_thread, block = self._join(), self._block
        # An interrupt can come between any two steps, and a generator can be deleted inside its block. `__del__` would
        # run for every block, and Python drops an interrupt that arrives in it.
        self._if_deleted = finalize(self, loop_thread.spawn, partial(_abort, block))
        self._if_deleted.atexit = False
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
            self._abort()  # an interrupt may have come before the commit
            raise
        self._left()

    def opened_in(self) -> LoopThread:
        """The loop in which the block is open.

        Raises:
            SessionClosedError: it is not open in this process.
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
            with contextlib.suppress(SessionClosedError):  # the loop has ended, and aborted the session
                self._loop_thread.call(_abort, self._block)
        self._left()

    def _left(self) -> None:
        self._loop_thread = None
        if self._if_deleted is not None:
            self._if_deleted.detach()


async def _abort(block: AsyncBlock[Any]) -> None:
    await block.__aexit__(SessionClosedError, SessionClosedError("its block failed"), None)

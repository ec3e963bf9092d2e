"""Open sessions, as programs without asyncio use them."""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar

from chatsession.sync.block import Block
from chatsession.unit_of_work.session import Session as AsyncSession

T = TypeVar("T")


class Session(Generic[T]):
    """One open session, a unit of work: the changes to its data are stored together, or not at all.

    Made by `SessionManager.open` and used as `with sessions.open(key) as s:`. When the block ends, the data is stored
    if it differs from what is stored. When the block raises, nothing is stored, also if the exception is
    `KeyboardInterrupt` or `SystemExit`. One that arrives during a commit is raised once the outcome is known.

    Raises, when the block ends:
        SessionConflictError: the session was changed elsewhere, or its lock was lost; nothing was written.
        SessionEncodeError: the data cannot be stored; nothing was written.
        SessionTooLargeError: the data is larger than `max_size`; nothing was written.
        SessionClosedError: the manager was closed meanwhile, or the process was forked inside the block; nothing was
            written.
        StorageUnavailableError: the storage did not answer within its bounded retry.
    """

    __slots__ = ("_block", "_session")

    def __init__(self, session: AsyncSession[T], block: Block[Any]) -> None:
        self._session = session
        self._block = block

    def __repr__(self) -> str:
        return repr(self._session)

    @property
    def key(self) -> str:
        """The key as passed to `open` (without the prefix), or the one to which the session has moved."""
        return self._session.key

    @property
    def exists(self) -> bool:
        """Whether the session is stored, as of when it was loaded, or of the last `save` or `release`."""
        return self._session.exists

    @property
    def data(self) -> T:
        """The value; if nothing is stored, what `initial` returns. Assign to replace, assign `None` to delete.

        Raises:
            SessionClosedError: the session is not open, or was released and is assigned.
        """
        self._block.opened_in()
        return self._session.data

    @data.setter
    def data(self, value: T | None) -> None:
        self._block.opened_in()
        self._session.data = value

    def save(self) -> None:
        """Commit now what has changed, and stay open. Durable when it returns; raises as the end of the block does."""
        self._block.opened_in().call(self._session.save)

    def release(self) -> None:
        """Commit now what has changed, and let the key's next update run; for long handlers.

        The data can still be read, but no longer changed: assigning raises `SessionClosedError`, and so does the
        end of the block if a part of the data was changed.
        """
        self._block.opened_in().call(self._session.release)

    def __enter__(self) -> Self:
        self._block.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._block.__exit__(kind)


class SessionGroup(Generic[T]):
    """Several sessions that open and end together; made by `SessionManager.open_many`."""

    __slots__ = ("_block",)

    def __init__(self, block: Block[list[AsyncSession[T]]]) -> None:
        self._block = block

    def __enter__(self) -> list[Session[T]]:
        return [Session(session, self._block) for session in self._block.__enter__()]

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._block.__exit__(kind)

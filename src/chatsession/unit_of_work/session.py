"""`Session`: the public interface of an open session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class Session(ABC, Generic[T]):
    """One open session, a unit of work: the changes to its data are stored together, or not at all.

    Made by `SessionManager.open` and used as `async with sessions.open(key) as s:`. When the block ends, the data is
    stored if it differs from what is stored. When the block raises or is cancelled, nothing is stored. A cancellation
    that arrives while a commit is under way takes effect once the outcome is known.

    Raises, when the block ends:
        SessionConflictError: the session was changed elsewhere, or its lock was lost; nothing was written.
        SessionEncodeError: the data cannot be stored; nothing was written.
        SessionTooLargeError: the data is larger than `max_size`; nothing was written.
        StorageUnavailableError: the storage did not answer within its bounded retry.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def key(self) -> str:
        """The key as passed to `open` (without the prefix), or the one to which the session has moved."""

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether the session is stored, as of when it was loaded, or of the last `save` or `release`."""

    @property
    @abstractmethod
    def data(self) -> T:
        """The value; if nothing is stored, the result of `initial`. Assign to replace it, assign `None` to delete it.

        Raises:
            SessionClosedError: the session is not open, or was released and is assigned.
        """

    @data.setter
    @abstractmethod
    def data(self, value: T | None) -> None: ...

    @abstractmethod
    async def save(self) -> None:
        """Commit now what has changed, and stay open. Durable when it returns; raises as the end of the block does."""

    @abstractmethod
    async def release(self) -> None:
        """Commit now what has changed, and let the key's next update run; for long handlers.

        The data can still be read, but no longer changed: assigning raises `SessionClosedError`, and so does the
        end of the block if a part of the data was changed.
        """

    @abstractmethod
    def __aenter__(self) -> Coroutine[Any, Any, Self]: ...

    @abstractmethod
    def __aexit__(self, kind: type[BaseException] | None, *_: object) -> Coroutine[Any, Any, None]: ...

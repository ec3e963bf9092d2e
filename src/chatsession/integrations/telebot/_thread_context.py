"""What handlers of a synchronous `TeleBot` use sessions by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from chatsession.integrations.update_session import UpdateSession
from chatsession.unit_of_work.unit import UnitOfWork

T = TypeVar("T")


class SyncSessionContext(Generic[T]):
    """What a handler of a `TeleBot` gets that names `ctx`: `ctx.session` to read, assign, and delete by `None`.

    Where the session is not loaded for you (in middlewares, and under `lazy=True`), `ctx.session` loads it.
    """

    __slots__ = ("_call", "_update_session")

    def __init__(self, call: Callable[[Callable[[], Any]], Any], update_session: UpdateSession[T]) -> None:
        self._call = call
        self._update_session = update_session

    @property
    def session(self) -> T:
        """The value. Assign to replace it, assign `None` to delete the session.

        Raises:
            SessionKeyError: the update has no session.
            SessionClosedError: the update is done, or the session was released and is assigned.
        """
        opened = self._update_session.opened
        return opened.data if isinstance(opened, UnitOfWork) else self.load_session()

    @session.setter
    def session(self, value: T | None) -> None:
        if self._update_session.opened is None:
            self._call(self._update_session.open)
        self._update_session.holder.data = value

    def load_session(self) -> T:
        """Give the value, as `ctx.session` does."""
        return self._call(self._update_session.load)

    def save_session(self) -> None:
        """Commit now what has changed, and go on (`Session.save`)."""
        self._call(self._update_session.holder.save)

    def release_session(self) -> None:
        """Commit now what has changed, and let this chat's next update run (`Session.release`)."""
        self._call(self._update_session.holder.release)

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

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something when the session is committed, in order, and not at all when it is not.

        With `deduplicate`, actions are stored in the same write as the data. If the process dies before they are
        sent, Telegram delivers the update again; then the handler does not run, and what is stored is sent. Without
        `deduplicate`, or in a `StorageAdapter`, they are sent after the commit and are not stored.

        Args:
            action: the name of a method of the bot (`"send_message"`), or a function that was registered by
                `@sessions.action`.
            *args: its arguments, which must be JSON where they are stored.
            **kwargs: its arguments by name.

        Raises:
            SessionActionError: it is not an action, or it cannot be stored.
            SessionClosedError: the update is done, or the session was released.
            SessionKeyError: the update has no session.
        """
        if self._update_session.unit is None:
            self.load_session()
        self._update_session.holder.after_commit(action, *args, **kwargs)

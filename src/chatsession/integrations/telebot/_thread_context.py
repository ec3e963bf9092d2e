"""The parameter `ctx` of the handlers of a synchronous `TeleBot`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from chatsession.integrations.update_session import UpdateSession
from chatsession.unit_of_work.unit import UnitOfWork

T = TypeVar("T")


class SyncSessionContext(Generic[T]):
    """The parameter `ctx` of a `TeleBot`'s handler: `ctx.session` reads and assigns; `ctx.session = None` deletes.

    If the session is not loaded yet (in middlewares, and with `lazy=True`), `ctx.session` loads it.
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
        """Load the session if necessary, and return its value, as `ctx.session` does."""
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
        sent, Telegram delivers the update again: the stored actions are sent, and the handler does not run again.
        Without `deduplicate`, or with a `StorageAdapter`, they are sent after the commit and are not stored.

        Args:
            action: the name of a bot method (`"send_message"`), or a function registered with `@sessions.action`.
            *args: positional arguments; they must be JSON if they are stored.
            **kwargs: keyword arguments, likewise.

        Raises:
            SessionActionError: it is not an action, or it cannot be stored.
            SessionClosedError: the update is done, or the session was released.
            SessionKeyError: the update has no session.
        """
        if self._update_session.unit is None:
            self.load_session()
        self._update_session.holder.after_commit(action, *args, **kwargs)

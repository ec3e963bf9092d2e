"""The session of one update: opened when it is first used, and ended with the update."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from weakref import ReferenceType

from msgspec import Struct
from msgspec.structs import replace

from chatsession.errors import SessionClosedError, SessionError, shown
from chatsession.integrations.update_context import UpdateContext
from chatsession.keys import per_user_in_chat
from chatsession.manager import SessionManager
from chatsession.unit_of_work.lazy import LazySession
from chatsession.unit_of_work.lending import begin_beside
from chatsession.unit_of_work.move import move
from chatsession.unit_of_work.unit import UnitOfWork

if TYPE_CHECKING:
    from chatsession.integrations.update_scope import UpdateScope

T = TypeVar("T")

_log = logging.getLogger("chatsession")


class UpdateSession(Struct, Generic[T], eq=False):
    """The session of one manager in one update, shared by its filters, middlewares and handlers."""

    manager: SessionManager[T]
    context: UpdateContext
    per_bot: bool
    """Keep the sessions of several bots apart."""
    lazy: bool
    """Load the session only when it is used."""
    opened: UnitOfWork[T] | LazySession[T] | None = None
    """`None`: it has not been used, or the update has none."""
    beside: Sequence[UpdateSession[Any]] = ()
    """All sessions of the update, if there are others."""
    scope: ReferenceType[UpdateScope] | None = None
    """Of the update, for `scope_in`."""
    _resolved: bool = False
    """It is known whether the update has a session."""
    _opening: bool = False
    _opening_ended: asyncio.Future[None] | None = None
    """For others that open it at the same time."""
    _closed: bool = False
    _made_as: object = None

    async def open(self) -> UnitOfWork[T] | LazySession[T] | None:
        """Open the session, unless it is open already. Returns it; `None` if the update has none."""
        while self._opening:
            await self._wait_until_open()
        if self._closed:
            raise _misused()
        if self._resolved:
            return self.opened
        self._opening = True
        key: str | Awaitable[str | None] | None = None
        try:
            units = self.manager.units
            key = units.key(self.context, self._scope if self.per_bot else "")
            if key is not None and not isinstance(key, str):
                key = await key
            if key is not None and self.lazy:
                self.opened = await self._begin_lazy(key)
            elif key is not None:
                unit = units.unit(key, self.context)
                await (begin_beside(unit, self._opened_beside()) if self.beside else unit.begin())
                self.opened = unit
            self._resolved = True
        except asyncio.CancelledError:
            of = f" {shown(key)}" if isinstance(key, str) else ""
            _log.warning("an update was cancelled while it waited for session%s; it was not handled", of)
            raise
        finally:
            self._opening = False
            if self._opening_ended is not None:
                self._opening_ended.set_result(None)
                self._opening_ended = None
        if self._closed and (opened := self.opened) is not None:  # the update ended without waiting for this
            self.opened = None
            await opened.abort()
            raise _misused()
        return self.opened

    async def _wait_until_open(self) -> None:
        if self._opening_ended is None:
            self._opening_ended = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._opening_ended])

    async def _begin_lazy(self, key: str) -> LazySession[T]:
        units = self.manager.units
        lazy = units.lazy_unit(key, self.context)
        if self.beside:
            lazy.beside = self._opened_beside
        if units.runtime.deduplicate:
            await lazy.load()
        return lazy

    def _opened_beside(self) -> list[UnitOfWork[Any] | None]:
        return [session.unit for session in self.beside]

    @property
    def _scope(self) -> str:
        if not self.per_bot:
            return ""
        if not self.context.bot_id:
            raise SessionError(
                "per_bot=True puts the bot's id before its keys, and this client does not know its own id yet; "
                "let it log in and ask for its own user (get_me) before it handles updates"
            )
        return f"{self.context.bot_id}:"

    async def load(self) -> T:
        """Open the session if necessary, and return its value."""
        await self.open()
        holder = self.holder
        value = await holder if isinstance(holder, LazySession) else holder.data
        unit = self.unit
        if self._made_as is None and unit is not None and not unit.exists:
            self._made_as = unit.fingerprint()
        return value

    @property
    def holder(self) -> UnitOfWork[T] | LazySession[T]:
        """The open session. Raises a `SessionError` that says why there is none."""
        if self.opened is not None:
            return self.opened
        if self._closed:
            raise _misused()
        if self._resolved:
            raise self.manager.units.missing()
        raise SessionError("the session is not loaded yet; await ctx.load_session() before you use ctx.session here")

    @property
    def unit(self) -> UnitOfWork[T] | None:
        """The unit of work, once the session is loaded."""
        opened = self.opened
        return opened.opened if isinstance(opened, LazySession) else opened

    @property
    def redelivered(self) -> bool:
        """Whether the session has seen this update before."""
        unit = self.unit
        return unit is not None and unit.redelivered

    def take(self) -> UnitOfWork[T] | LazySession[T] | None:
        """Go back to the beginning. Returns the session, if one was opened, for the caller to abort."""
        opened, self.opened = self.opened, None
        self._resolved = False
        self._made_as = None
        return opened

    def close(self) -> UnitOfWork[T] | LazySession[T] | None:
        """Refuse further use. Returns the session, if one was opened, for the caller to commit or abort."""
        self._closed = True
        self.beside = ()
        return self.opened

    def discard_if_only_read(self) -> None:
        """No handler ran: store nothing if a new session was only read."""
        unit = self.unit
        if unit is None or unit.exists or unit.assigned or unit.outbox is not None:
            return
        try:
            unchanged = unit.fingerprint() == self._made_as
        except SessionError:  # the commit will report it
            return
        if unchanged:
            unit.write_nothing()

    async def follow_chat(self) -> None:
        """Move the sessions of a group that became a supergroup to the new chat.

        Moves the session of this update, and with `per_user_in_chat` those of all members. A `get_session_key` of your
        own is called for each of the two chats, with a context that has its `chat_id`.
        """
        context = self.context
        if context.moved_to is not None:
            old, new = context.chat_id, context.moved_to
        else:
            old, new = context.moved_from, context.chat_id
        manager, scope = self.manager, self._scope
        old_key = await manager.key_of(replace(context, chat_id=old), scope)
        new_key = await manager.key_of(replace(context, chat_id=new), scope)
        if old_key is None or new_key is None or old_key == new_key:
            return
        await move(manager.runtime, old_key, new_key)
        if manager.options.get_session_key is per_user_in_chat:
            await manager.units.move_all(f"{scope}{old}:", f"{scope}{new}:")


def _misused() -> SessionClosedError:
    return SessionClosedError(
        "the session is used after its update was done; use sessions.open() to change it from elsewhere"
    )


class _Context(Generic[T]):
    """The methods of both kinds of context."""

    __slots__ = ("_update_session",)

    def __init__(self, update_session: UpdateSession[T]) -> None:
        self._update_session = update_session

    async def load_session(self) -> T:
        """Load the session where it is not loaded for you: in filters, middlewares and class-based handlers."""
        return await self._update_session.load()

    async def save_session(self) -> None:
        """Commit now what has changed, and go on (`Session.save`)."""
        await self._update_session.holder.save()

    async def release_session(self) -> None:
        """Commit now what has changed, and let this chat's next update run (`Session.release`)."""
        await self._update_session.holder.release()

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something when the session is committed, in order, and not at all when it is not.

        With `deduplicate`, actions are stored in the same write as the data. If the process dies before they are
        sent, Telegram delivers the update again: the stored actions are sent, and the handler does not run again.
        Without `deduplicate`, or with a `StorageAdapter`, they are sent after the commit and are not stored.

        Args:
            action: the framework's object for a method call (aiogram's `message.answer("…")`, without `await`), the
                name of a bot method (`"send_message"`), or a function registered with `@sessions.action`.
            *args: positional arguments for a name or a function.
            **kwargs: keyword arguments for a name or a function.

        Raises:
            SessionActionError: it is not an action, or it cannot be stored.
            SessionClosedError: the update is done, or the session was released.
            SessionKeyError: the update has no session.
        """
        self._update_session.holder.after_commit(action, *args, **kwargs)


class SessionContext(_Context[T]):
    """The parameter `ctx` of a handler: `ctx.session` reads and assigns; `ctx.session = None` deletes."""

    __slots__ = ()

    @property
    def session(self) -> T:
        """The value. Assign to replace it, assign `None` to delete the session.

        Raises:
            SessionKeyError: the update has no session.
            SessionClosedError: the update is done, or the session was released and is assigned.
        """
        return cast("T", self._update_session.holder.data)

    @session.setter
    def session(self, value: T | None) -> None:
        self._update_session.holder.data = value


class LazySessionContext(_Context[T]):
    """The parameter `ctx` of a handler with `lazy=True`: the first `await ctx.session` loads the session."""

    __slots__ = ()

    @property
    def session(self) -> Awaitable[T]:
        """The value, once awaited. Assign a value or an awaitable of one; assign `None` to delete."""
        return cast("Awaitable[T]", self._update_session.holder.data)

    @session.setter
    def session(self, value: T | Awaitable[T] | None) -> None:
        self._update_session.holder.data = cast("T | None", value)


def scope_in(given: Mapping[str, object]) -> UpdateScope | None:
    """The scope of an update, by a context of its sessions.

    Args:
        given: what a handler is given, in whatever task or thread.

    Returns:
        `None` if no context is among it, as with a bot that has no sessions.

    Raises:
        SessionClosedError: the update is done.
    """
    for thing in given.values():
        if isinstance(thing, _Context):
            reference = cast("_Context[Any]", thing)._update_session.scope
            if (scope := reference and reference()) is None:
                raise _misused()
            return scope
    return None

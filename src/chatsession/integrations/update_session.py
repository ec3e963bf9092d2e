"""What every framework's integration is made of: the ids of an update, and its one unit of work.

A framework has to tell three things: whose update it is, when somebody wants the session, and how the update ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, Generic, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from chatsession.errors import SessionClosedError, SessionError
from chatsession.keys import missing, per_user_in_chat
from chatsession.manager import SessionManager, check_separate
from chatsession.unit_of_work.lazy import LazySession
from chatsession.unit_of_work.move import move
from chatsession.unit_of_work.unit import UnitOfWork

T = TypeVar("T")


class UpdateContext(Struct, frozen=True, kw_only=True):
    """What a `get_session_key` function is given: where an update comes from, and the update itself.

    Attributes:
        chat_id: of the chat, if the update has one.
        user_id: of the user who caused it, if it has one.
        thread_id: of the topic in a forum.
        business_connection_id: of the business account on whose behalf the chat is led.
        bot_id: of the bot that got the update.
        update: as the framework gives it.
        update_id: of the update, if it has one.
        moved_from: the group that this chat was, if the update says so (`migrate_from_chat_id`).
        moved_to: the supergroup that this chat has become, if the update says so (`migrate_to_chat_id`).
    """

    chat_id: int | None
    user_id: int | None
    thread_id: int | None
    business_connection_id: str | None
    bot_id: int
    update: object
    update_id: int | None = None
    moved_from: int | None = None
    moved_to: int | None = None


class UpdateSession(Generic[T]):
    """The session of one update: opened when the first one wants it, ended with the update, whoever used it.

    Args:
        manager: of the sessions.
        context: whose session it is.
        per_bot: keep the sessions of several bots apart.
        lazy: read only when it is asked for.
    """

    __slots__ = (
        "_answered",
        "_asked",
        "_asking",
        "_closed",
        "_context",
        "_holder",
        "_lazy",
        "_made_as",
        "_manager",
        "_per_bot",
        "handled",
        "redelivered",
    )

    def __init__(self, manager: SessionManager[T], context: UpdateContext, *, per_bot: bool, lazy: bool) -> None:
        self._manager = manager
        self._context = context
        self._per_bot = per_bot
        self._lazy = lazy
        self._holder: UnitOfWork[T] | LazySession[T] | None = None
        self._asked = False
        self._asking = False
        self._answered: asyncio.Future[None] | None = None
        self._closed = False
        self.handled: bool = False
        """A handler has run; if none does, what filters or middlewares merely looked at is not stored."""
        self.redelivered: bool = False
        """Once it is `wanted`: the update was committed before, and must not be handled again."""
        self._made_as: object = None

    async def wanted(self) -> None:
        """Somebody is about to use the session: open it, unless that was done, or the update has none."""
        while self._asking:
            self._answered = self._answered or asyncio.get_running_loop().create_future()
            await asyncio.wait([self._answered])
        if self._closed:
            raise self._misused()
        if self._asked:
            return
        self._asking = True
        try:
            key = self._manager.units.key(self._context, self._scope if self._per_bot else "")
            if key is not None and not isinstance(key, str):
                key = await key
            if key is not None and self._lazy:
                self._holder = await self._lazily(key)
            elif key is not None:
                session = self._manager.units.unit(key, self._context)
                await session.begin()
                self.redelivered = session.redelivered
                self._holder = session
            self._asked = True
        finally:
            self._asking = False
            if self._answered is not None:
                self._answered.set_result(None)
                self._answered = None
        if self._closed and (holder := self._holder) is not None:  # the update ended, without waiting for this
            self._holder = None
            await holder.abort()
            raise self._misused()

    async def _lazily(self, key: str) -> LazySession[T]:
        lazy = self._manager.units.lazy_unit(key, self._context)
        if self._manager.runtime.deduplicate:
            self.redelivered = (await lazy.load()).redelivered
        return lazy

    @property
    def asked(self) -> bool:
        """Somebody has wanted the session, and it is known what became of that."""
        return self._asked

    @property
    def _scope(self) -> str:
        return f"{self._context.bot_id}:" if self._per_bot else ""

    @property
    def moves_chat(self) -> bool:
        """Does the update say that a group became a supergroup?"""
        return self._context.moved_to is not None or self._context.moved_from is not None

    async def follow_chat(self) -> None:
        """The update says that a group became a supergroup: let the sessions of the old chat be the new one's.

        Moves the session to which this update belongs, and with `per_user_in_chat` those of all members. A
        `get_session_key` of your own is asked for the key of either chat, by a context with that `chat_id`.
        """
        context = self._context
        if context.moved_to is not None:
            old, new = context.chat_id, context.moved_to
        else:
            old, new = context.moved_from, context.chat_id
        manager, scope = self._manager, self._scope
        old_key = await manager.key_of(replace(context, chat_id=old), scope)
        new_key = await manager.key_of(replace(context, chat_id=new), scope)
        if old_key is None or new_key is None or old_key == new_key:
            return
        await move(manager.runtime, old_key, new_key)
        if manager.options.get_session_key is per_user_in_chat:
            start, prefix = f"{scope}{old}:", manager.runtime.prefix
            async for key, _ in manager.units.records(start):
                await move(manager.runtime, key, f"{prefix}{scope}{new}:{key[len(prefix + start) :]}")

    async def load(self) -> T:
        """Open the session if need be, and give its value."""
        await self.wanted()
        holder = self.holder
        value = await holder if isinstance(holder, LazySession) else holder.data
        session = self._session
        if self._made_as is None and session is not None and not session.exists:
            self._made_as = session.fingerprint()
        return value

    @property
    def holder(self) -> UnitOfWork[T] | LazySession[T]:
        """The open session. Raises a `SessionError` that says why there is none."""
        if self._holder is not None:
            return self._holder
        raise self._misused() if self._closed else self._missing()

    def finish(self) -> Coroutine[Any, Any, None]:
        """The update was handled, or put aside by the framework's own control flow: commit."""
        self._closed = True
        return _nothing() if self._holder is None else self._holder.commit()

    async def put_aside(self) -> None:
        """Nobody handled the update: commit what filters or middlewares changed, but make no session of a mere look."""
        if self._as_made() and (session := self._session) is not None:
            session.write_nothing()
        await self.finish()

    async def abandon(self) -> None:
        """A handler failed: write nothing."""
        self._closed = True
        if self._holder is not None:
            await self._holder.abort()

    @property
    def _session(self) -> UnitOfWork[T] | None:
        holder = self._holder
        return holder.opened if isinstance(holder, LazySession) else holder

    def _as_made(self) -> bool:
        session = self._session
        if session is None or session.exists or session.assigned:
            return False
        try:
            return session.fingerprint() == self._made_as
        except SessionError:  # the commit will tell
            return False

    def _missing(self) -> SessionError:
        if self._asked:
            return missing(self._manager.options.get_session_key)
        return SessionError("the session is not loaded yet; await ctx.load() before you use ctx.session here")

    def _misused(self) -> SessionClosedError:
        return SessionClosedError(
            "the session is used after its update was done; use sessions.open() to change it from elsewhere"
        )


async def _nothing() -> None:
    """Nobody asked for the session."""


class _Context(Generic[T]):
    """What the two kinds of context have in common."""

    __slots__ = ("_unit",)

    def __init__(self, unit: UpdateSession[T]) -> None:
        self._unit = unit

    async def load(self) -> T:
        """Give the value where it is not loaded for you: in filters, middlewares and class-based handlers."""
        return await self._unit.load()

    async def save_session(self) -> None:
        """Commit now what has changed, and go on (`Session.save`)."""
        await self._unit.holder.save()

    async def release_session(self) -> None:
        """Commit now what has changed, and let this chat's next update run (`Session.release`)."""
        await self._unit.holder.release()


class SessionContext(_Context[T]):
    """What a handler gets that names `ctx`: `ctx.session` to read, assign, and delete by `ctx.session = None`."""

    __slots__ = ()

    @property
    def session(self) -> T:
        """The value. Assign to replace it, assign `None` to delete the session.

        Raises:
            SessionKeyError: the update has no session.
            SessionClosedError: the update is done, or the session was released and is assigned.
        """
        return cast("T", self._unit.holder.data)

    @session.setter
    def session(self, value: T | None) -> None:
        self._unit.holder.data = value


class LazySessionContext(_Context[T]):
    """What a handler gets that names `ctx` under `lazy=True`: `await ctx.session` reads, when it is first asked."""

    __slots__ = ()

    @property
    def session(self) -> Awaitable[T]:
        """The value, once awaited. Assign a value or an awaitable of one; assign `None` to delete."""
        return cast("Awaitable[T]", self._unit.holder.data)

    @session.setter
    def session(self, value: T | Awaitable[T] | None) -> None:
        self._unit.holder.data = cast("T | None", value)


def check_set_up(one: SessionManager[Any], other: SessionManager[Any], *, same_scope: bool) -> None:
    """Raises `ValueError` if two managers of one bot have the same name, or the same keys in the same storage.

    Args:
        one: is set up.
        other: was set up before.
        same_scope: both keep the sessions of several bots apart, or neither does.
    """
    name = one.options.name
    if other.options.name == name:
        raise ValueError(
            f"sessions of the name {name!r} are set up already; "
            "give the second SessionManager another name, as in SessionManager(…, name='cart')"
        )
    if same_scope:
        check_separate([(other.options.name, other), (name, one)])

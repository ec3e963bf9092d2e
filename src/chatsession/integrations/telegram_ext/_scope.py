"""The scope of an update, of a job's run, or of an error handler: what is stored together, and which tasks use it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from msgspec.structs import replace
from telegram import Update
from telegram.ext import ApplicationHandlerStop, Job

from chatsession.actions import Methods
from chatsession.errors import SessionClosedError, SessionError
from chatsession.integrations.telegram_ext._loaded import LoadedData
from chatsession.integrations.update_context import UpdateContext
from chatsession.integrations.update_scope import SessionBindings, UpdateScope
from chatsession.manager import SessionManager
from chatsession.unit_of_work.group import abort_all, all_redelivered, commit_all
from chatsession.unit_of_work.lazy import LazySession
from chatsession.unit_of_work.unit import UnitOfWork

if TYPE_CHECKING:
    from chatsession.integrations.telegram_ext._persistence import SessionPersistence
    from chatsession.integrations.telegram_ext._usage import Usage

SCOPE = "_chatsession_scope"
"""The attribute of a context behind which its scope is."""

_AnySession = UnitOfWork[Any] | LazySession[Any]


class Served(NamedTuple):
    """What was set up for an application."""

    bindings: SessionBindings
    bot_id: int
    methods: Methods
    """Of its bot."""
    persistence: SessionPersistence | None = None

    @property
    def managers(self) -> list[SessionManager[Any]]:
        """Those of sessions, then that of persisted data."""
        persisted = [] if self.persistence is None else [self.persistence.managers["persistence"]]
        return [*self.bindings.managers, *persisted]

    async def start(self) -> None:
        """The bot starts: open the storages (again)."""
        await self.bindings.start()
        if self.persistence is not None:
            await self.persistence.start()

    async def release(self) -> None:
        """The bot stops: close the storages that no other bot uses, once what runs is done."""
        releasing = [self.bindings.release()]
        if self.persistence is not None:
            releasing.append(self.persistence.release())
        await asyncio.gather(*releasing)


class Scope:
    """The sessions and data that are stored together, or not at all, and the tasks that still use them.

    Args:
        served: what was set up for the application.
        ids: whose sessions and data.
        update: that it is about, if it is about one.
        failed: the scope before this one, of the same update.
    """

    def __init__(self, served: Served, ids: UpdateContext, update: object = None, failed: Scope | None = None) -> None:
        self.served = served
        self.update = update
        self.data: LoadedData | None = None
        """The application's persisted data, if it has any."""
        self.wanted = False
        """A handler uses the sessions, so that all that run from then on in this update have them open."""
        self.opened = False
        self.unopenable = False
        self.ended = False
        self.results: dict[asyncio.Task[Any] | None, object] = {}
        """Of those tasks that have done their part."""
        self._loop = asyncio.get_running_loop()
        self._first = asyncio.current_task(self._loop)
        self.users: set[asyncio.Task[Any] | None] = {self._first}
        self._of_update: object = object() if failed is None else failed._of_update
        self.context: object = None if failed is None else failed.context
        """That of the update's handlers, until they are done."""
        self._sessions = self._sessions_of(ids)
        if self.context is not None:
            self.bind(self.context)

    def _sessions_of(self, ids: UpdateContext) -> UpdateScope:
        sessions = UpdateScope(self.served.bindings, ids)
        sessions.handled = True  # they are opened only for somebody who handles the update
        return sessions

    # Who takes part.

    def bind(self, context: object) -> None:
        """Let a context find its sessions here."""
        setattr(context, SCOPE, self)
        for place, binding in enumerate(self.served.bindings.all):
            setattr(context, f"_{binding.name}_holder", _Holder(self, place))

    @property
    def current(self) -> Scope:
        """The scope in which this task takes part, of those of one update."""
        scope = running.get()
        return scope if scope is not None and scope._of_update is self._of_update else self

    async def __aenter__(self) -> Self:
        self._token: Token[Scope | None] = running.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running.reset(self._token)
        await self.end(error)

    # What they use.

    async def begin(self) -> None:
        """Do for an update what comes before its first handler is looked for."""
        persistence = self.served.persistence
        if self._sessions.context.moves_chat:
            await self._sessions.follow_chat()
            if persistence is not None:
                await persistence.follow_chat(self._sessions.context)
        if persistence is not None:
            await self.load_data()
            await persistence.keyboards.insert(self.update)

    async def load_data(self, outer: LoadedData | None = None) -> None:
        """Lock and load what python-telegram-bot would have in memory.

        Args:
            outer: the data of the update inside of which this is, if there is one.
        """
        persistence, ids = self.served.persistence, self._sessions.context
        if persistence is not None:
            self.data = LoadedData(persistence, ids, outer)
            await self.data.load(*persistence.ids_of(ids))

    async def enter(self, context: Any, refresh_data: Callable[[], Awaitable[None]]) -> None:
        """A new context of the update is about to be used by the first handler.

        Args:
            context: its own class may have found the chat and the user of any object: those are loaded, too.
            refresh_data: python-telegram-bot's own method of the context.
        """
        if self.context is None and not isinstance(self.update, Update):
            ids = replace(self._sessions.context, chat_id=context._chat_id, user_id=context._user_id)
            self._sessions = self._sessions_of(ids)
        if self.data is not None:
            await self.data.load(context._chat_id, context._user_id)
        self.bind(context)
        self.context = context
        await refresh_data()
        await self.refresh_data(context)

    async def refresh_data(self, context: Any) -> None:
        """Let the application's persistence bring in what other programs know of the chat and the user."""
        if self.data is not None:
            await self.data.refresh(context._chat_id, context._user_id)

    async def load_bot_data(self, uses: Usage) -> None:
        """Lock and load `bot_data` for a callback that uses it."""
        persistence = self.served.persistence
        if persistence is not None and persistence.stored.bot_data and uses.bot_data and self.data is not None:
            await self.data.load_bot_data()

    def is_over(self, job: Job[Any]) -> bool:
        """Whether the conversation whose timer a job is has timed out; true of all other jobs."""
        persistence = self.served.persistence
        return persistence is None or self.data is None or persistence.conversations.is_over(self.data, job)

    async def open_for_handler(self) -> None:
        """Lock and load for a handler that is about to run, if one of the update uses the sessions.

        Before that, handlers that do not block take their first step, as they come before those of later groups.
        """
        if len(self.users) > 1 and asyncio.current_task(self._loop) is self._first:
            await asyncio.sleep(0)
        if self.wanted:
            await self.open()

    async def prepare(self) -> None:
        """Make lazy sessions ready to be awaited, which costs nothing."""
        for binding, session in zip(self.served.bindings.all, self._sessions.sessions, strict=True):
            if binding.lazy:
                await session.open()

    async def open(self) -> None:
        """Lock and load, in the order in which the managers were set up."""
        self.opened = True
        try:
            for session in self._sessions.sessions:
                await session.open()
        except BaseException:
            self.unopenable = True
            raise

    @property
    def redelivered(self) -> bool:
        """Whether all that was opened has seen this update, which then must not be handled again."""
        if self.data is not None:
            return all_redelivered([*self.data.units, *[session.unit for session in self._sessions.sessions]])
        return self.opened and self._sessions.redelivered

    def holder(self, place: int) -> _AnySession:
        """The open session of the manager at a place. Raises a `SessionError` that says why there is none."""
        if not self.opened and not self.ended:
            binding = self.served.bindings.all[place]
            if not binding.lazy:
                raise SessionError(
                    f"context.{binding.name} is not loaded here; load it by `await context.load_session()`. "
                    "That is done only for handlers and jobs whose code uses it, and not for error handlers"
                )
        return self._sessions.sessions[place].holder

    def holders(self) -> list[_AnySession | LoadedData]:
        """All that are open; if there is none, raises the error that says why."""
        opened: list[_AnySession | LoadedData]
        opened = [session.opened for session in self._sessions.sessions if session.opened is not None]
        if self.data is not None and self.data.units:
            opened.append(self.data)
        return opened or [self.holder(0)]

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something with the first session that can store it, or with persisted data if there is none."""
        holders = [session.opened for session in self._sessions.sessions if session.opened is not None]
        units = [session.unit for session in self._sessions.sessions if session.unit is not None]
        if self.data is not None:
            units += self.data.units
        remembering = [unit for unit in units if unit.update_id is not None]
        holder = next(iter([*remembering, *holders, *units]), None) or self.holder(0)
        holder.after_commit(action, *args, **kwargs)

    # How it ends.

    async def end(self, error: BaseException | None) -> None:
        """A task has done its part: well, if it was stopped by no more than python-telegram-bot's control flow."""
        if error is None or isinstance(error, ApplicationHandlerStop):
            await self.leave()
        else:
            await self.fail()

    async def leave(self) -> None:
        """A task has done its part; the last one commits: prepare all, then commit all, or none."""
        self.users.discard(asyncio.current_task(self._loop))
        if self.ended:
            return
        if self.users:
            self._hand_on(next(iter(self.users)))
            return
        self.ended = True
        data = self.data
        if data is None:
            await self._sessions.commit()
            return
        units = [*data.units, *self._sessions.close()]
        try:
            data.settle(self.results)
            await commit_all(units)
            for action in data.afterwards:
                await action()
        except BaseException:
            await abort_all(units)
            raise
        finally:
            await data.finish()

    async def fail(self) -> None:
        """A task has failed, and with it all others: nothing is written."""
        if self.ended:
            return
        self.ended = True
        if self.data is None:
            await self._sessions.abort()
            return
        await abort_all([*self.data.units, *self._sessions.close()])
        await self.data.finish()

    def renewed(self) -> Scope:
        """What follows in this update is a scope of its own, because this one has failed."""
        scope = Scope(self.served, self._sessions.context, self.update, failed=self)
        running.set(scope)
        return scope

    def _hand_on(self, task: asyncio.Task[Any] | None) -> None:
        """The keys belong to another task now: the one that had them may be the one that fetches the next update."""
        for session in self._sessions.sessions:
            if session.unit is not None:
                session.unit.reassign(task)
        for unit in () if self.data is None else self.data.units:
            unit.reassign(task)


class _Holder:
    """Stands behind an attribute of a context (`flavors.Holder`); `SessionMethods` do the rest.

    Args:
        scope: of the context.
        place: of the manager among all.
    """

    __slots__ = ("_place", "_scope")

    def __init__(self, scope: Scope, place: int) -> None:
        self._scope = scope
        self._place = place

    @property
    def data(self) -> Any:
        return self._scope.current.holder(self._place).data

    @data.setter
    def data(self, value: Any) -> None:
        self._scope.current.holder(self._place).data = value


running: ContextVar[Scope | None] = ContextVar("chatsession_telegram_ext", default=None)
"""The scope in which a task takes part."""


def running_data() -> LoadedData | None:
    """The data that the running update has loaded; `None`: there is no update, or it is done."""
    scope = running.get()
    return None if scope is None or scope.ended else scope.data


def loaded_data(persistence: SessionPersistence, what: str) -> LoadedData:
    """The data that the running update has loaded.

    Raises:
        SessionError: there is no such update.
        SessionClosedError: the update is done.
    """
    scope = running.get()
    if scope is None or scope.data is None or scope.served.persistence is not persistence:
        raise SessionError(
            f"{what} is not loaded: it is loaded with each update, and this is outside of any; "
            "use `async with open_persistence(application, …)`"
        )
    if scope.ended:
        raise SessionClosedError(
            f"{what} is used after its update was done, so that a change would be lost; "
            "await what you start, or use open_persistence()"
        )
    return scope.data

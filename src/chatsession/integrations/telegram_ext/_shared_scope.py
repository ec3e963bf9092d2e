"""The scope of an update, of a job's run, or of an error handler: which tasks share it, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from telegram import Bot
from telegram.ext import ApplicationHandlerStop

from chatsession.actions import Methods
from chatsession.errors import SessionError
from chatsession.integrations.telegram_ext._usage import Attributes
from chatsession.integrations.update_context import UpdateContext
from chatsession.integrations.update_scope import SessionBindings, UpdateScope
from chatsession.unit_of_work.group import abort_all, all_redelivered, commit_all
from chatsession.unit_of_work.lazy import LazySession
from chatsession.unit_of_work.unit import UnitOfWork

if TYPE_CHECKING:
    from chatsession.integrations.telegram_ext._context_scope import ContextScope
    from chatsession.integrations.telegram_ext._loaded import LoadedData
    from chatsession.integrations.telegram_ext._persistence import SessionPersistence

AnySession = UnitOfWork[Any] | LazySession[Any]

_NEED_SESSIONS = frozenset(("save_session", "release_session", "after_commit"))
"""The methods of contexts that need an open session."""


class Served(NamedTuple):
    """What was set up for an application."""

    bindings: SessionBindings
    persistence: SessionPersistence | None = None
    methods: Methods | None = None
    """Of its bot."""

    def bot_id_of(self, bot: Bot) -> int:
        """The bot's id, which is not known before the bot was initialized; 0 where no key needs it."""
        try:
            return bot.id
        except RuntimeError:
            if any(binding.per_bot for binding in self.bindings.all):
                raise
            return 0

    async def start(self) -> None:
        """The bot starts: open the storages (again)."""
        await self.bindings.start()
        if self.persistence is not None:
            await self.persistence.start()

    async def release(self) -> None:
        """The bot stops: close the storages that no other bot uses, once what runs is done."""
        if self.persistence is not None:
            await asyncio.gather(self.bindings.release(), self.persistence.release())
        else:
            await self.bindings.release()


class SharedScope:
    """The sessions and data that are stored together, or not at all, and the tasks that still use them.

    Args:
        scope: to which it belongs.
        served: what was set up.
        ids: whose they are; asked for only if somebody wants them.
    """

    def __init__(self, scope: ContextScope, served: Served, ids: Callable[[], UpdateContext]) -> None:
        self.scope = scope
        self._first = asyncio.current_task()
        self.users: set[asyncio.Task[Any] | None] = {self._first}
        self.results: dict[asyncio.Task[Any] | None, object] = {}
        """Of those tasks that have done their part."""
        self.wanted = False
        """A handler uses the sessions, so that all that run from then on in this update have them open."""
        self.opened = False
        self.unopenable = False
        self.ended = False
        self.bindings = served.bindings
        self.data: LoadedData | None = None
        """The application's persisted data, if it has any."""
        self._persistence = served.persistence
        self._ids = ids
        self._update_scope: UpdateScope | None = None

    @property
    def update_scope(self) -> UpdateScope:
        """The sessions."""
        if self._update_scope is None:
            self._update_scope = UpdateScope(self.bindings, self._ids())
            self._update_scope.handled = True  # a context is made only for somebody who handles the update
        return self._update_scope

    @property
    def redelivered(self) -> bool:
        """Whether all that was opened has seen this update, which then must not be handled again."""
        if self.data is not None:
            return all_redelivered([*self.data.units, *[session.unit for session in self.update_scope.sessions]])
        return self.opened and self.update_scope.redelivered

    async def follow_chat(self) -> None:
        """Let the sessions and data of a group that became a supergroup follow."""
        await self.update_scope.follow_chat()
        if self._persistence is not None:
            await self._persistence.follow_chat(self.update_scope.context)

    async def load_data(self, outer: LoadedData | None = None) -> None:
        """Lock and load what python-telegram-bot would have in memory.

        Args:
            outer: the data of the update inside of which this is, if there is one.
        """
        if self._persistence is not None:
            self.data = self._persistence.loaded(self.update_scope.context, outer)
            await self.data.load()

    async def refresh_data(self) -> None:
        """Let the application's persistence bring in what other programs know."""
        if self.data is not None:
            await self.data.refresh()

    async def load_bot_data_for(self, callback: object, context_class: type[object]) -> None:
        """Lock and load `bot_data` if a callback uses it."""
        persistence = self._persistence
        if self.data is not None and persistence is not None and persistence.uses_bot_data(callback, context_class):
            await self.data.load_bot_data()

    def needs_sessions(self, attributes: Attributes) -> bool:
        """Whether a callback that uses these attributes of its context uses a session."""
        return attributes is None or not attributes.isdisjoint(self.bindings.names | _NEED_SESSIONS)

    async def prepare(self) -> None:
        """Make lazy sessions ready to be awaited, which costs nothing."""
        for binding, session in zip(self.bindings.all, self.update_scope.sessions, strict=False):
            if binding.lazy:
                await session.open()

    async def let_others_begin(self) -> None:
        """Let handlers that do not block take their first step, as they come before those of later groups."""
        if len(self.users) > 1 and asyncio.current_task() is self._first:
            await asyncio.sleep(0)

    async def open(self) -> None:
        """Lock and load, in the order in which the managers were set up."""
        self.opened = True
        try:
            for session in self.update_scope.sessions:
                await session.open()
        except BaseException:
            self.unopenable = True
            raise

    def holder(self, name: str) -> AnySession:
        """The open session of a manager. Raises a `SessionError` that says why there is none."""
        place = next(place for place, binding in enumerate(self.bindings.all) if binding.name == name)
        if not self.opened and not self.ended and not self.bindings.all[place].lazy:
            raise SessionError(
                f"context.{name} is not loaded here; load it by `await context.load_session()`. "
                "That is done only for handlers and jobs whose code uses it, and not for error handlers"
            )
        return self.update_scope.sessions[place].holder

    def holders(self) -> list[AnySession | LoadedData]:
        """All that are open; if there is none, raises the error that says why."""
        opened: list[AnySession | LoadedData]
        opened = [session.opened for session in self.update_scope.sessions if session.opened is not None]
        if self.data is not None and self.data.units:
            opened.append(self.data)
        return opened or [self.holder(self.bindings.all[0].name)]

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something with the first session that can store it, or with persisted data if there is none."""
        holders = [session.opened for session in self.update_scope.sessions if session.opened is not None]
        units = [session.unit for session in self.update_scope.sessions if session.unit is not None]
        if self.data is not None:
            units += self.data.units
        remembering = [unit for unit in units if unit.update_id is not None]
        holder = next(iter([*remembering, *holders, *units]), None) or self.holder(self.bindings.all[0].name)
        holder.after_commit(action, *args, **kwargs)

    async def end(self, error: BaseException | None) -> None:
        """A task has done its part: well, if it was stopped by no more than python-telegram-bot's control flow."""
        if error is None or isinstance(error, ApplicationHandlerStop):
            await self.leave()
        else:
            await self.fail()

    async def leave(self) -> None:
        """A task has done its part; the last one commits."""
        self.users.discard(asyncio.current_task())
        if self.ended or (self._update_scope is None and self.data is None):
            return
        if self.users:
            self._hand_on(next(iter(self.users)))
            return
        self.ended = True
        if self.data is None:
            await self.update_scope.commit()
        else:
            await self._commit_with(self.data)

    async def _commit_with(self, data: LoadedData) -> None:
        """Store sessions and data: prepare all, then commit all, or none."""
        units = [*data.units, *self.update_scope.close()]
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
            await self.update_scope.abort()
            return
        self.data.end()
        await abort_all([*self.data.units, *self.update_scope.close()])
        await self.data.finish()

    def _hand_on(self, task: asyncio.Task[Any] | None) -> None:
        """The keys belong to another task now: the one that had them may be the one that fetches the next update."""
        for session in self.update_scope.sessions:
            if session.unit is not None:
                session.unit.reassign(task)
        for unit in () if self.data is None else self.data.units:
            unit.reassign(task)


shared_scope: ContextVar[SharedScope | None] = ContextVar("chatsession_telegram_ext", default=None)
"""The scope in which a task takes part."""

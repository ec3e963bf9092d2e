"""The unit of work of an update, of a job's run, or of an error handler: who takes part in it, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from telegram.ext import ApplicationHandlerStop

from chatsession.errors import SessionError
from chatsession.integrations.update_session import UpdateContext, UpdateSession
from chatsession.manager import SessionManager
from chatsession.unit_of_work.lazy import LazySession
from chatsession.unit_of_work.unit import UnitOfWork

AnySession = UnitOfWork[Any] | LazySession[Any]


@dataclass(frozen=True)
class Kind:
    """One kind of session that was set up for an application."""

    sessions: SessionManager[Any]
    lazy: bool
    per_bot: bool

    @property
    def name(self) -> str:
        """The attribute of the context."""
        return self.sessions.options.name

    def unit(self, context: UpdateContext) -> UpdateSession[Any]:
        """The session of this kind that belongs to an update; not opened yet."""
        return UpdateSession(self.sessions, context, per_bot=self.per_bot, lazy=self.lazy)


class Work:
    """The sessions that are stored together, or not at all; and the tasks that still work with them.

    Args:
        scope: of which it is the work.
        kinds: of the sessions.
        ids: whose they are; asked for only if somebody wants them.
    """

    def __init__(self, scope: Scope, kinds: Sequence[Kind], ids: Callable[[], UpdateContext]) -> None:
        self.scope = scope
        self.users: set[asyncio.Task[Any] | None] = {asyncio.current_task()}
        self.opened = False
        self.unopenable = False
        self.ended = False
        self.kinds = tuple(kinds)
        self._ids = ids
        self._units: dict[str, UpdateSession[Any]] | None = None

    @property
    def units(self) -> dict[str, UpdateSession[Any]]:
        """The sessions, by the names of their managers."""
        if self._units is None:
            ids = self._ids()
            self._units = {kind.name: kind.unit(ids) for kind in self.kinds}
        return self._units

    @property
    def redelivered(self) -> bool:
        """All sessions that remember updates have seen this one. If only some have, the others need it."""
        remembering = [
            unit
            for kind, unit in zip(self.kinds, self.units.values(), strict=True)
            if kind.sessions.runtime.deduplicate
        ]
        return bool(remembering) and all(unit.redelivered for unit in remembering)

    async def follow_chat(self) -> None:
        """Let the sessions of a group that became a supergroup go along."""
        for unit in self.units.values():
            await unit.follow_chat()

    async def prepare(self) -> None:
        """Make lazy sessions ready to be awaited, which costs nothing."""
        for kind, unit in zip(self.kinds, self.units.values(), strict=True):
            if kind.lazy:
                await unit.wanted()

    async def open(self) -> None:
        """Lock and load, in the order in which the managers were set up."""
        self.opened = True
        try:
            for unit in self.units.values():
                await unit.wanted()
        except BaseException:
            self.unopenable = True
            raise

    def holder(self, name: str) -> AnySession:
        """The open session of a manager. Raises a `SessionError` that says why there is none."""
        kind = next(kind for kind in self.kinds if kind.name == name)
        if not self.opened and not self.ended and not kind.lazy:
            raise SessionError(
                f"context.{name} is not loaded yet: error handlers load it by `await context.load_session()`"
            )
        return self.units[name].holder

    def holders(self) -> list[AnySession]:
        """All that are open; if there is none, raises the error that says why."""
        open_ = [unit._holder for unit in self.units.values() if unit._holder is not None]
        return open_ or [self.holder(self.kinds[0].name)]

    async def end(self, error: BaseException | None) -> None:
        """A task has done its part: well, if it was stopped by no more than python-telegram-bot's control flow."""
        if error is None or isinstance(error, ApplicationHandlerStop):
            await self.leave()
        else:
            await self.fail()

    async def leave(self) -> None:
        """A task has done its part; the last one commits."""
        self.users.discard(asyncio.current_task())
        if self.ended or self._units is None:
            return
        if self.users:
            self._hand_on(next(iter(self.users)))
            return
        self.ended = True
        await self._finish(list(self._units.values()))

    async def fail(self) -> None:
        """A task has failed, and with it all of this work: nothing is written."""
        if self.ended:
            return
        self.ended = True
        await _abandon(list(self.units.values()))

    async def _finish(self, units: list[UpdateSession[Any]]) -> None:
        try:
            if len(units) > 1:  # if one cannot be stored, none is
                for unit in units:
                    if isinstance(unit._holder, UnitOfWork):
                        unit._holder.prepare()
            while units:
                await units.pop(0).finish()
        finally:
            await _abandon(units)

    def _hand_on(self, task: asyncio.Task[Any] | None) -> None:
        """The keys belong to another task now: the one that had them may be the one that fetches the next update."""
        for unit in self.units.values():
            session = unit._session
            if session is not None:
                session.reassign(task)


async def _abandon(units: list[UpdateSession[Any]]) -> None:
    try:
        while units:
            await units.pop(0).abandon()
    finally:
        if units:  # cancelled, which is no reason to keep what is locked
            await _abandon(units)


class Scope:
    """Where contexts find their sessions: in the work of one update, of one run of a job, or of an error handler.

    Args:
        kinds: of the sessions.
        ids: whose they are.
        update: that it is about, if it is about one.
    """

    def __init__(self, kinds: Sequence[Kind], ids: Callable[[], UpdateContext], update: object | None = None) -> None:
        self.update = update
        self.bound = False
        self._ids = ids
        self._token: Token[Work | None] | None = None
        self.work = Work(self, kinds, ids)

    @property
    def current(self) -> Work:
        """The work in which this task takes part."""
        work = working.get()
        return work if work is not None and work.scope is self else self.work

    def bind(self, context: object) -> None:
        """Let a context find its sessions here."""
        self.bound = True
        for kind in self.work.kinds:
            setattr(context, f"_{kind.name}_holder", InScope(self, kind.name))
        setattr(context, SCOPE, self)

    def renew(self) -> None:
        """What follows is a work of its own, because the one before has failed."""
        self.work = Work(self, self.work.kinds, self._ids)
        working.set(self.work)

    async def __aenter__(self) -> Work:
        self._token = working.set(self.work)
        return self.work

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        working.reset(self._token)
        await self.work.end(error)


class InScope:
    """Stands behind an attribute of a context (`flavors.Holder`)."""

    __slots__ = ("_name", "_scope")

    def __init__(self, scope: Scope, name: str) -> None:
        self._scope = scope
        self._name = name

    @property
    def data(self) -> Any:
        return self._scope.current.holder(self._name).data

    @data.setter
    def data(self, value: Any) -> None:
        self._scope.current.holder(self._name).data = value

    async def save(self) -> None:
        """Commit now, and go on."""
        await self._scope.current.holder(self._name).save()

    async def release(self) -> None:
        """Commit now, and let the next update in."""
        await self._scope.current.holder(self._name).release()


SCOPE = "_chatsession_scope"
"""The attribute of a context behind which its `Scope` is."""

working: ContextVar[Work | None] = ContextVar("chatsession_telegram_ext", default=None)
"""The work in which a task takes part."""

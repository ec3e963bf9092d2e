"""Sessions for handlers that name them as parameters, in frameworks that have no place of their own for that."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Generic, TypeVar

from chatsession.integrations.update_session import (
    LazySessionContext,
    SessionContext,
    UpdateContext,
    UpdateSession,
    check_set_up,
)
from chatsession.manager import SessionManager

T = TypeVar("T")
R = TypeVar("R")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class SetUp(Generic[T]):
    """One manager, as it was set up for a bot.

    Args:
        sessions: the manager.
        lazy: sessions are read only when they are asked for.
        per_bot: keep the sessions of several bots apart.
    """

    def __init__(self, sessions: SessionManager[T], *, lazy: bool, per_bot: bool) -> None:
        self.sessions = sessions
        self.lazy = lazy
        self.per_bot = per_bot
        self.name = sessions.options.name
        self.context_name = "ctx" if self.name == "session" else f"{self.name}_ctx"
        self.deduplicates = bool(sessions.runtime.deduplicate)

    @property
    def names(self) -> frozenset[str]:
        """The parameters by which handlers ask for these sessions."""
        return frozenset((self.name, self.context_name))

    def check_names(self, taken: Collection[str]) -> None:
        """Raises `ValueError` if handlers get something else under these names."""
        for name in sorted(self.names.intersection(taken)):
            raise ValueError(
                f"handlers get something else as {name!r} already; "
                "give the SessionManager another name, as in SessionManager(…, name='cart')"
            )

    def check_beside(self, other: SetUp[Any]) -> None:
        """Raises `ValueError` if the other one has the same name, or the same keys in the same storage."""
        check_set_up(self.sessions, other.sessions, same_scope=self.per_bot == other.per_bot)
        self.check_names(other.names)

    def begin(self, context: UpdateContext) -> Unit[T]:
        """The session of an update, not opened yet."""
        unit = UpdateSession(self.sessions, context, per_bot=self.per_bot, lazy=self.lazy)
        return Unit(self, unit, LazySessionContext(unit) if self.lazy else SessionContext(unit))


class Unit(Generic[T]):
    """The session of one update, and what stands for it in a handler."""

    __slots__ = ("context", "session", "set_up")

    def __init__(
        self, set_up: SetUp[T], session: UpdateSession[T], context: SessionContext[T] | LazySessionContext[T]
    ) -> None:
        self.set_up = set_up
        self.session = session
        self.context = context


class SetUps:
    """All managers of one bot, in the order in which they were set up, which is the order in which they are locked."""

    def __init__(self) -> None:
        self._all: list[SetUp[Any]] = []

    def add(self, set_up: SetUp[Any], taken: Collection[str]) -> None:
        """Set up one more.

        Args:
            set_up: the manager.
            taken: names under which handlers get something else.

        Raises:
            ValueError: it cannot be told from something that handlers get already.
        """
        set_up.check_names(taken)
        for other in self._all:
            set_up.check_beside(other)
        self._all.append(set_up)

    def asked_for(self, function: Callable[..., object], given: int) -> frozenset[str]:
        """The sessions that a handler names.

        Args:
            function: the handler.
            given: how many of its first parameters are the framework's.
        """
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # it has no signature to look at
            return frozenset()
        positional = [each.name for each in parameters if each.kind in _POSITIONAL]
        own = {each.name for each in parameters}.difference(positional[:given])
        return frozenset(name for set_up in self._all for name in set_up.names if name in own)

    def begin(self, context: UpdateContext) -> Work:
        """The sessions of an update, none opened yet."""
        return Work([set_up.begin(context) for set_up in self._all])

    async def serve(
        self,
        context: UpdateContext,
        names: Collection[str],
        call: Callable[..., Awaitable[R]],
        control_flow: tuple[type[BaseException], ...],
    ) -> R | None:
        """Run one handler as one unit of work.

        Args:
            context: of the update.
            names: of the sessions that the handler asks for.
            call: runs it, with these sessions as keywords.
            control_flow: exceptions that are no failure: they commit.
        """
        work = self.begin(context)
        try:
            given = await work.give(names)
            result = None if given is None else await call(**given)
        except control_flow:
            await work.finish()
            raise
        except BaseException:
            await work.abandon()
            raise
        await work.finish()
        return result

    async def follow_chat(self, context: UpdateContext) -> None:
        """A group became a supergroup: let all its sessions come along."""
        await self.begin(context).follow_chat()

    async def start(self) -> None:
        """Open the storages (again)."""
        for set_up in self._all:
            await set_up.sessions.start()

    async def aclose(self, timeout: float = 30.0) -> None:
        """Close the storages, once their sessions are closed.

        Args:
            timeout: seconds to wait for these at most.
        """
        closing = [asyncio.ensure_future(set_up.sessions.aclose(timeout)) for set_up in self._all]
        await asyncio.gather(*closing)


class Work:
    """What the handlers of one update do to sessions: committed as a whole, or not at all."""

    __slots__ = ("_units",)

    def __init__(self, units: Sequence[Unit[Any]]) -> None:
        self._units = units

    @property
    def contexts(self) -> dict[str, object]:
        """What is given under the names of contexts, also to those who did not ask for it, and load by it."""
        return {unit.set_up.context_name: unit.context for unit in self._units}

    async def follow_chat(self) -> None:
        """Let the sessions come along, if the update says that a group became a supergroup."""
        for unit in self._units:
            if unit.session.moves_chat:
                await unit.session.follow_chat()

    async def give(self, names: Collection[str]) -> dict[str, object] | None:
        """Load what a handler names.

        Returns:
            The handler's keywords; `None` if all its sessions know the update, which then must not be handled again
           .
        """
        wanted = [unit for unit in self._units if not unit.set_up.names.isdisjoint(names)] if names else ()
        for unit in wanted:
            await unit.session.wanted()
        for unit in self._units:
            unit.session.handled = True
        remembering = [unit for unit in wanted if unit.set_up.deduplicates]
        if remembering and all(unit.session.redelivered for unit in remembering):
            return None
        given: dict[str, object] = {}
        for unit in wanted:
            if unit.set_up.name in names:
                given[unit.set_up.name] = unit.session.holder.data
            if unit.set_up.context_name in names:
                given[unit.set_up.context_name] = unit.context
        return given

    async def finish(self) -> None:
        """The update is done, or put aside by control flow: commit. Raises the first error, after all have ended."""
        await self._end(
            [unit.session.finish if unit.session.handled else unit.session.put_aside for unit in self._units]
        )

    async def abandon(self) -> None:
        """A handler failed: write nothing. May be called twice."""
        await self._end([unit.session.abandon for unit in self._units])

    async def _end(self, ways: Sequence[Callable[[], Awaitable[None]]]) -> None:
        failed: BaseException | None = None
        for unit, way in zip(self._units, ways, strict=True):
            try:
                await (way() if failed is None else unit.session.abandon())
            except BaseException as error:  # the locks of the others are let go of all the same
                failed = failed or error
        if failed is not None:
            raise failed

"""All sessions of one update: loaded by name, and committed together or not at all. Used by every framework."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from chatsession.errors import SessionNameError
from chatsession.integrations.signatures import AnyCallable, bound_values
from chatsession.integrations.update_context import UpdateContext
from chatsession.integrations.update_session import LazySessionContext, SessionContext, UpdateSession
from chatsession.manager import SessionManager
from chatsession.separation import check_separate
from chatsession.unit_of_work.group import Unit, abort_all, all_redelivered, commit_all
from chatsession.unit_of_work.unit import UnitOfWork

if TYPE_CHECKING:
    from chatsession.integrations.states.unit import StateUnit

T = TypeVar("T")

_log = logging.getLogger("chatsession")

_PROPOSED = ("state_", "chat_state", "chatsession_state")
"""Names to propose for a manager whose name is taken."""


class SessionBinding(Generic[T]):
    """One manager, as set up for one bot.

    Args:
        sessions: the manager.
        lazy: load sessions only when they are used.
        per_bot: keep the sessions of several bots apart.
    """

    def __init__(self, sessions: SessionManager[T], *, lazy: bool, per_bot: bool) -> None:
        if not isinstance(sessions, SessionManager):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass their class
            raise TypeError(
                f"setup_sessions takes a SessionManager, as in SessionManager(Pizza, storage='sqlite:///bot.db'), not "
                f"{sessions!r}"
            )
        for option, value in (("lazy", lazy), ("per_bot", per_bot)):
            if not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass others
                raise TypeError(f"{option} takes True or False, not {value!r}")
        self.sessions = sessions
        self.lazy = lazy
        self.per_bot = per_bot
        self.name: str = sessions.options.name
        self.context_class: type[SessionContext[T] | LazySessionContext[T]] = (
            LazySessionContext if lazy else SessionContext
        )
        self.context_name: str = "ctx" if self.name == "session" else f"{self.name}_ctx"
        self.names: frozenset[str] = frozenset((self.name, self.context_name))
        """The handler parameters that stand for these sessions."""

    def check_names(self, taken: Collection[str], source: str = "") -> None:
        """Raises `SessionNameError` if handlers get something else under these names; see `name_taken`."""
        for name in sorted(self.names.intersection(taken)):
            raise name_taken(name, taken, source)

    def check_bound(self, handler: AnyCallable) -> None:
        """Raises `SessionNameError` if `functools.partial` binds one of these names in a handler."""
        self.check_names(bound_values(handler), "bound by functools.partial")

    def check_beside(self, other: SessionBinding[Any]) -> None:
        """Raises `ValueError` if another binding has the same name, or the same keys in the same storage."""
        if other.name == self.name:
            raise ValueError(
                f"sessions of the name {self.name!r} are set up already; "
                "give the second SessionManager another name, as in SessionManager(…, name='cart')"
            )
        if other.per_bot == self.per_bot:
            check_separate([(other.name, other.sessions), (self.name, self.sessions)])
        self.check_names(other.names)

    async def start(self) -> None:
        """The bot starts: open the storage."""
        await self.sessions.runtime.start(self)

    async def release(self, timeout: float) -> None:
        """The bot stops: close the storage, unless another bot uses the manager."""
        left = await self.sessions.runtime.release(self, timeout)
        if left:
            _log.error("%d sessions were still open %g s after the bot stopped; their changes are lost", left, timeout)


class SessionBindings:
    """All managers of one bot, in the order in which they were set up and are locked."""

    def __init__(self) -> None:
        self.all: list[SessionBinding[Any]] = []
        self.names: frozenset[str] = frozenset()
        """The handler parameters that stand for sessions."""
        self.deduplicate: bool = False
        """Whether one of the managers remembers updates."""

    @property
    def managers(self) -> list[SessionManager[Any]]:
        """The managers of the bindings."""
        return [binding.sessions for binding in self.all]

    def check(self, binding: SessionBinding[Any], taken: Collection[str] = ()) -> None:
        """Raises `ValueError` (`SessionNameError`) if a binding clashes with another, or with something else.

        Args:
            binding: the binding to be added.
            taken: names under which handlers get something else.
        """
        binding.check_names(taken)
        for other in self.all:
            binding.check_beside(other)

    def add(self, binding: SessionBinding[Any], taken: Collection[str] = ()) -> None:
        """Add a binding; raises as `check` does."""
        self.check(binding, taken)
        self.all.append(binding)
        self.names |= binding.names
        self.deduplicate = self.deduplicate or binding.sessions.runtime.deduplicate

    def check_bound(self, handler: AnyCallable) -> None:
        """`SessionBinding.check_bound` for all bindings."""
        for binding in self.all:
            binding.check_bound(handler)

    def check_given(self, given: Mapping[str, object], source: str, names: Collection[str] | None = None) -> None:
        """Raises `SessionNameError` if handlers get something else under the name of a session.

        Args:
            given: the handlers' arguments without the sessions; the sessions' contexts may be among them.
            source: where the arguments come from.
            names: the names to check; `None`: those of all sessions and their contexts.
        """
        for name in self.names if names is None else names:
            if name in given and not isinstance(given[name], (SessionContext, LazySessionContext)):
                raise name_taken(name, given, source)

    async def start(self) -> None:
        """The bot starts: open the storages (again)."""
        for binding in self.all:
            await binding.start()

    async def release(self, timeout: float = 30.0) -> None:
        """The bot stops: close the storages that no other bot uses, once their sessions have ended.

        Args:
            timeout: seconds to wait for the sessions.
        """
        await asyncio.gather(*[asyncio.ensure_future(binding.release(timeout)) for binding in self.all])


def name_taken(name: str, taken: Collection[str], source: str = "") -> SessionNameError:
    """The error for a name under which handlers would get two different things.

    Args:
        name: the name of the session or of its context.
        taken: the names of all other things, or a mapping from these names to the things.
        source: where they come from.
    """
    thing = f"a {type(cast('Mapping[str, object]', taken)[name]).__name__} " if isinstance(taken, Mapping) else ""
    told = f" ({thing}{source})" if source else ""
    free = next(proposed for proposed in _PROPOSED if proposed not in taken)
    return SessionNameError(
        f"handlers get something else as {name!r} already{told}, where chatsession would give them their session or "
        f"its context; give the SessionManager another name, as in SessionManager(…, name={free!r})"
    )


class UpdateScope:
    """The sessions of one update: committed together, or not at all.

    Args:
        bindings: the bot's managers.
        context: the update.
    """

    __slots__ = ("__weakref__", "beside", "bindings", "context", "contexts", "handled", "sessions", "states")

    def __init__(self, bindings: SessionBindings, context: UpdateContext) -> None:
        self.bindings: SessionBindings = bindings
        self.context: UpdateContext = context
        self.sessions: list[UpdateSession[Any]] = []
        """In the order of the bindings."""
        self.contexts: dict[str, object] = {}
        """The contexts by their names, for filters, middlewares and handlers."""
        self.handled: bool = False
        """Whether a handler has run. If none has, sessions that filters or middlewares only read are not stored."""
        self.states: StateUnit | None = None
        """The states of the update, if they are locked: they are committed together with its sessions."""
        self.beside: UnitOfWork[Any] | None = None
        """One of them, if states remember updates, too."""
        for binding in bindings.all:
            session = UpdateSession(binding.sessions, context, binding.per_bot, binding.lazy)
            self.sessions.append(session)
            self.contexts[binding.context_name] = binding.context_class(session)
            if len(bindings.all) > 1:
                session.beside = self.sessions

    async def follow_chat(self) -> None:
        """Move the sessions of a group that became a supergroup."""
        for session in self.sessions:
            await session.follow_chat()

    async def load(self, names: Collection[str], mentioned: Collection[str] = ()) -> dict[str, object]:
        """Load the named sessions.

        Args:
            names: of sessions, or of contexts whose sessions are wanted.
            mentioned: further names of sessions. The names of contexts count for nothing here: a handler that is
                given all contexts loads by them.

        Returns:
            The sessions' values by the names of their managers.
        """
        values: dict[str, object] = {}
        for binding, session in zip(self.bindings.all, self.sessions, strict=False):
            if binding.name in names or binding.name in mentioned:
                opened = await session.open()
                values[binding.name] = session.holder.data if opened is None else opened.data
            elif binding.context_name in names:
                await session.open()
        return values

    @property
    def redelivered(self) -> bool:
        """Whether all loaded sessions have seen this update, which then must not be handled again."""
        if not self.bindings.deduplicate and self.beside is None:
            return False
        seen = all_redelivered([self.beside, *[session.unit for session in self.sessions]])
        if seen:
            _log.info("update %s was handled before; its handlers do not run again", self.context.update_id)
        return seen

    def commit(self) -> Coroutine[Any, Any, None]:
        """The update is done: prepare all sessions, then commit all of them or none."""
        if self.states is not None:
            self.states.add(self)
            return commit_all(())
        opened = self.close()
        return opened[0].commit() if len(opened) == 1 else commit_all(opened)

    def close(self) -> list[Unit]:
        """The update is done: returns the opened sessions, for the caller to commit."""
        opened: list[Unit] = []
        for session in self.sessions:
            if not self.handled:
                session.discard_if_only_read()
            if (unit := session.close()) is not None:
                opened.append(unit)
        return opened

    async def roll_back(self) -> None:
        """A handler failed: write nothing of the update so far. What uses a session after that loads it again."""
        if self.states is not None:
            self.states.undo()
        await _abort([opened for session in self.sessions if (opened := session.take()) is not None])

    async def abort(self) -> None:
        """The update failed: write nothing. May be called twice."""
        await _abort([opened for session in self.sessions if (opened := session.close()) is not None])


async def _abort(opened: list[Unit]) -> None:
    if len(opened) == 1:
        await opened[0].abort()
    elif opened:
        await abort_all(opened)

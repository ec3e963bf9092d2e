"""How the suite runs a bot in a framework: one driver for each framework."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar, cast

from chatsession.manager import SessionManager
from chatsession.testing.integration_suite.incoming import Incoming

T = TypeVar("T")


class SessionAccess(Protocol):
    """What handlers use a session by: `SessionContext` and `LazySessionContext` of the integrations are such."""

    @property
    def session(self) -> Any:
        """The value, or under `lazy` an awaitable of it."""
        ...

    @session.setter
    def session(self, value: Any) -> None: ...

    async def save_session(self) -> None:
        """As `Session.save`."""
        ...

    async def release_session(self) -> None:
        """As `Session.release`."""
        ...

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """As `SessionContext.after_commit`."""
        ...


class NeutralSession(Generic[T]):
    """One session, as the suite's handlers use it.

    Args:
        access: the framework's.
    """

    def __init__(self, access: SessionAccess) -> None:
        self._access = access

    async def get(self) -> T:
        """The value, loaded if it was not yet."""
        value = self._access.session
        return cast("T", await value if inspect.isawaitable(value) else value)

    def assign(self, value: T | None) -> None:
        """Replace the value; `None` deletes."""
        self._access.session = value

    async def save(self) -> None:
        """Commit now, and go on."""
        await self._access.save_session()

    async def release(self) -> None:
        """Commit now, and let the next update in."""
        await self._access.release_session()

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something once it is committed."""
        self._access.after_commit(action, *args, **kwargs)


class NeutralContext:
    """What a handler of the suite gets, in whatever framework.

    Args:
        text: of the message or the inline query.
        access: to the sessions that the handler asked for, by the names of their managers.
    """

    def __init__(self, text: str, access: Mapping[str, SessionAccess]) -> None:
        self.text = text
        self._access = access

    def of(self, sessions: SessionManager[T]) -> NeutralSession[T]:
        """The session of this update among those of a manager."""
        return NeutralSession(self._access[sessions.options.name])


NeutralHandler: TypeAlias = Callable[[NeutralContext], Awaitable[None]]


class FrameworkDriver(ABC):
    """One bot in one framework; a new one is made for each test, often several.

    The methods come in this order: `setup` for each manager and `handle` for each handler (in either order), `start`,
    `feed`, `stop`. After `stop`, nothing of the bot is left running.
    """

    control_flow: ClassVar[Mapping[str, Callable[[], BaseException]]] = {}
    """The framework's exceptions that are no failures, by name: after them, the suite expects a commit."""
    asks_by_name: ClassVar[bool] = True
    """Handlers say by their parameters which sessions they want; where they cannot, only lazy sessions cost nothing."""
    several_managers: ClassVar[bool] = True
    """Several managers can be set up side by side."""
    update_ids: ClassVar[bool] = True
    """Updates have ids, so that a redelivered one is recognised."""
    chat_moves: ClassVar[bool] = True
    """The framework shows the service messages of a group that becomes a supergroup."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        """What handlers raised, and what the integration raised in their place, as the framework tells it."""

    @abstractmethod
    def setup(self, sessions: SessionManager[Any], *, lazy: bool = False) -> None:
        """Call the integration's `setup_sessions`; what it raises comes out."""

    @abstractmethod
    def handle(self, handler: NeutralHandler, *, wants: Collection[SessionManager[Any]]) -> None:
        """Register a handler for messages with text and for inline queries, as the last one.

        Args:
            handler: gets a `NeutralContext` that gives access to what it wants.
            wants: the sessions for which the framework's handler asks.
        """

    @abstractmethod
    async def start(self) -> None:
        """Start the bot as its framework does, but without asking a server for updates."""

    @abstractmethod
    async def feed(self, incoming: Incoming) -> None:
        """Let an update in by the framework's real dispatcher, and return when the update is done with.

        It is called for many updates at once, which arrive in the order of the calls; 200 must be able to run beside
        each other. An error of the update is put into `errors`, and does not come out.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Stop the bot as its framework does, while updates may be in the middle of their handlers.

        May be called twice.
        """


MakeDriver: TypeAlias = Callable[[], FrameworkDriver]

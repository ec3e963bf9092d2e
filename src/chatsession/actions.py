"""What `after_commit` takes: registered functions, and bot methods as the framework has them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from chatsession.errors import SessionActionError

ActionFunction: TypeAlias = Callable[..., Awaitable[object]]

Arguments: TypeAlias = tuple[str, list[Any], dict[str, Any]]
"""The name of a method, and its arguments as JSON has them."""


class Methods(Protocol):
    """The methods of one bot; the attribute `bot_methods` of a context."""

    def encode(self, action: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Encode an action for storage.

        Args:
            action: the framework's object for a method call, or the name of a method.
            args: positional arguments, if `action` is a name.
            kwargs: keyword arguments, if `action` is a name.

        Raises:
            SessionActionError: it is not an action of this framework, or cannot be stored.
        """
        ...

    def describe(self, action: object) -> str:
        """The name of the method, for messages."""
        ...

    async def call(self, action: object, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]) -> None:
        """Call a method, given as in `encode`, or as its name with the encoded arguments.

        Raises:
            UnknownActionError: there is no method of this name.
        """
        ...

    def translate(self, error: Exception, /) -> Exception:
        """Translate an error of the framework to one of the errors below; any other error is returned as it is."""
        ...


def methods_of(ctx: object) -> Methods | None:
    """The methods of a context's bot, if it has any."""
    return getattr(ctx, "bot_methods", None)


class UnknownActionError(Exception):
    """There is no action of this name (any more)."""


class RefusedError(Exception):
    """Telegram refused the request for good."""


class RetryLaterError(Exception):
    """Telegram asks to try again later.

    Args:
        seconds: to wait.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Telegram asks to wait {seconds:g} s")
        self.seconds = seconds


class UnreachableError(Exception):
    """Telegram could not be reached, or failed itself."""


class ActionFunctions:
    """The functions that were registered with a manager, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, ActionFunction] = {}
        self._names: dict[Callable[..., object], str] = {}

    def add(self, function: ActionFunction, name: str | None) -> ActionFunction:
        """Register a function under a name; `None`: under its own.

        Raises:
            TypeError: it is not an async function.
            ValueError: another function has this name.
        """
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"an action must be an async function, not {function!r}")
        self._register(function, name or function.__name__, function)
        return function

    def add_blocking(self, function: Callable[..., object], name: str | None) -> None:
        """Register a function that is not async. It is called in a thread.

        Raises:
            TypeError: it is async.
            ValueError: another function has this name.
        """
        if not inspect.isroutine(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"an action of chatsession.sync must be a function that is not async, not {function!r}")

        async def call(*args: Any, **kwargs: Any) -> object:
            return await asyncio.to_thread(function, *args, **kwargs)

        self._register(function, name or function.__name__, call)

    def _register(self, function: Callable[..., object], name: str, call: ActionFunction) -> None:
        if self._names.get(function) != name and name in self._by_name:
            raise ValueError(f"another action is registered as {name!r}; pass name=…")
        self._by_name[name] = call
        self._names[function] = name

    def get(self, name: str) -> ActionFunction | None:
        """The function registered under a name, if there is one."""
        return self._by_name.get(name)

    def name_of(self, action: object) -> str | None:
        """The name of a registered function, given as the function or as the name; `None`: it is something else.

        Raises:
            SessionActionError: it is a function that is not registered.
        """
        if isinstance(action, str):
            return action if action in self._by_name else None
        if not inspect.isroutine(action):
            return None
        name = self._names.get(action)
        if name is None:
            raise SessionActionError(
                f"{getattr(action, '__qualname__', action)!s} is not registered; register it by @sessions.action, so "
                "that it is found again after a restart"
            )
        return name

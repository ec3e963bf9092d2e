"""Runs the handlers of one Pyrogram client with their sessions."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import cache, partial, wraps
from typing import Any

import pyrogram
from pyrogram import ContinuePropagation, StopPropagation, handlers
from pyrogram.dispatcher import Dispatcher

from chatsession.errors import SessionError
from chatsession.integrations._named_methods import NamedMethods
from chatsession.integrations.injection import named_sessions, run_handler
from chatsession.integrations.pyrogram._ids import context_of
from chatsession.integrations.pyrogram._methods import translated
from chatsession.integrations.update_scope import SessionBinding, SessionBindings, UpdateScope

_NAMES_OF_PYROGRAM = frozenset(("client",))
_ATTRIBUTE = "_chatsession"
_WRAPPED = "_chatsession_wrapped"
"""The attribute of a function that stands for a handler."""
_FIRST = -sys.maxsize
"""The group that runs before all other groups."""
_WITHOUT_UPDATE: Any = tuple(
    vars(handlers).get(f"{what}Handler", ()) for what in ("Start", "Stop", "Connect", "Disconnect")
)


def dispatch_of(client: pyrogram.Client) -> Dispatch:
    """The `Dispatch` of a client; made by the first call."""
    return getattr(client, _ATTRIBUTE, None) or Dispatch(client)


class Dispatch:
    """Wraps the handlers of one client, its start and its stop."""

    def __init__(self, client: pyrogram.Client) -> None:
        _check_version()
        self._client: Any = client
        self._dispatcher: Any = client.dispatcher
        self._methods = NamedMethods(client, translated)
        self.bindings: SessionBindings = SessionBindings()
        self._moves = _Moves(self._follow_chat)
        self._wrapping: asyncio.Task[None] | None = None
        self._add_handler: Callable[..., Any] = self._client.add_handler
        self._start: Callable[[], Awaitable[None]] = self._dispatcher.start
        self._stop: Callable[..., Awaitable[None]] = self._dispatcher.stop

    def add(self, binding: SessionBinding[Any]) -> None:
        """Set up a manager; the first one wraps the handlers."""
        for handler in self._handlers():
            binding.check_bound(_function_of(handler))
        self.bindings.add(binding, _NAMES_OF_PYROGRAM)
        if getattr(self._client, _ATTRIBUTE, None) is self:
            return
        setattr(self._client, _ATTRIBUTE, self)
        self._client.add_handler = self.add_handler
        self._dispatcher.start = self.start
        self._dispatcher.stop = self.stop
        self._wrap_all()
        if self._client.is_initialized:
            self._dispatcher.add_handler(self._moves, _FIRST)
            self._wrapping = self._client.loop.create_task(self._wrap_pending())

    def add_handler(self, handler: handlers.handler.Handler, group: int = 0) -> Any:
        """The client's own method, with sessions."""
        self._wrap(handler)
        return self._add_handler(handler, group)

    async def start(self) -> None:
        """Open the storages, and start to dispatch."""
        await self.bindings.start()
        await asyncio.sleep(0)  # so that handlers registered just before are in their groups
        self._wrap_all()
        self._dispatcher.groups[_FIRST] = [self._moves]
        self._dispatcher.groups = OrderedDict(sorted(self._dispatcher.groups.items()))
        await self._start()

    async def stop(self, *args: Any, **kwargs: Any) -> None:
        """Let the workers finish, and close the storages."""
        try:
            await self._stop(*args, **kwargs)
        finally:
            await self.bindings.release()

    def _wrap_all(self) -> None:
        for handler in self._handlers():
            self._wrap(handler)

    def _handlers(self) -> list[Any]:
        return [handler for group in self._dispatcher.groups.values() for handler in group]

    async def _wrap_pending(self) -> None:
        """Wrap handlers that a running client has not added yet: it adds them under the locks of all its workers."""
        async with AsyncExitStack() as locked:
            for lock in list(self._dispatcher.locks_list):
                await locked.enter_async_context(lock)
            self._wrap_all()

    def _wrap(self, handler: Any) -> None:
        if isinstance(handler, (_WITHOUT_UPDATE, _Moves)):
            return
        function = _function_of(handler)
        self.bindings.check_bound(function)
        if not hasattr(function, _WRAPPED):
            setattr(handler, _callback_attribute(handler), _wrapped(function, _given(handler)))

    async def _follow_chat(self, client: Any, message: Any) -> None:
        await self.scope(client, message).follow_chat()

    def scope(self, client: Any, update: Any) -> UpdateScope:
        """The sessions of an update."""
        return UpdateScope(self.bindings, context_of(client, update, self._methods))


def _wrapped(function: Callable[..., Any], given: int) -> Callable[..., Awaitable[Any]]:
    """A handler that has its sessions, in each of the clients that it belongs to.

    Args:
        function: the user's.
        given: how many of its parameters Pyrogram fills.
    """
    is_async = inspect.iscoroutinefunction(function)
    named = cache(partial(named_sessions, function, given))

    @wraps(function)
    async def serve(client: Any, *args: Any) -> Any:
        def call(**sessions: object) -> Awaitable[Any]:
            if is_async:
                return function(client, *args, **sessions)
            return client.loop.run_in_executor(client.executor, partial(function, client, *args, **sessions))

        dispatch: Dispatch | None = getattr(client, _ATTRIBUTE, None)
        names = dispatch and named(dispatch.bindings.names)
        if dispatch is None or not names:
            return await call()
        update = args[2 if given == 6 else 0]  # error handlers get the error and the handler first
        scope = dispatch.scope(client, update)
        return await run_handler(scope, names, call, (StopPropagation, ContinuePropagation))

    setattr(serve, _WRAPPED, True)
    return serve


class _Moves(handlers.MessageHandler):
    """Receives the service messages of a group that becomes a supergroup, before any other handler."""

    async def check(self, client: Any, update: Any) -> bool:
        return update.migrate_to_chat_id is not None or update.migrate_from_chat_id is not None


def _callback_attribute(handler: Any) -> str:
    """The attribute of a handler that holds the user's function; pyromod moves it and wraps it with a method."""
    if getattr(handler.callback, "__self__", None) is handler:
        return next((name for name in ("original_callback", "user_callback") if hasattr(handler, name)), "callback")
    return "callback"


def _function_of(handler: Any) -> Callable[..., Any]:
    return getattr(handler, _callback_attribute(handler))


def _given(handler: Any) -> int:
    """How many parameters of a handler Pyrogram fills."""
    if isinstance(handler, handlers.ErrorHandler):
        return 6
    return 4 if isinstance(handler, handlers.RawUpdateHandler) else 2


def _check_version() -> None:
    required = ("start", "stop", "add_handler", "handler_worker")
    missing = [name for name in required if not hasattr(Dispatcher, name)]
    if missing or not hasattr(handlers, "ErrorHandler"):
        raise SessionError(
            f"sessions need kurigram 2.2.25 or newer; the installed pyrogram {pyrogram.__version__} is not it; "
            "install it by pip install 'chatsession[pyrogram]'"
        )

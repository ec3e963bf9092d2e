"""Runs the handlers of one Telethon client with their sessions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextvars import ContextVar
from functools import partial
from typing import Any

import telethon  # pyright: ignore[reportMissingTypeStubs] # there are none
from telethon import TelegramClient, events  # pyright: ignore[reportMissingTypeStubs]
from telethon.tl import types  # pyright: ignore[reportMissingTypeStubs]

from chatsession.errors import SessionError
from chatsession.integrations._named_methods import NamedMethods
from chatsession.integrations.injection import named_sessions, run_handler
from chatsession.integrations.telethon._ids import context_of
from chatsession.integrations.telethon._methods import translated
from chatsession.integrations.update_scope import SessionBinding, SessionBindings, UpdateScope

_log = logging.getLogger("chatsession")

_tl: Any = types  # generated, and without annotations that pyright could follow
_NAMES_OF_TELETHON = frozenset(("event",))
_ATTRIBUTE = "_chatsession"
_HOOKS = ("add_event_handler", "_dispatch_update", "_update_loop", "_disconnect_coro")
_DRAIN_TIMEOUT = 30.0
_handler: ContextVar[asyncio.Task[Any] | None] = ContextVar("chatsession_telethon_handler", default=None)
"""The task of the handler that runs: a handler that disconnects must not wait for itself."""


def dispatch_of(client: TelegramClient) -> Dispatch:
    """The `Dispatch` of a client; made by the first call."""
    return getattr(client, _ATTRIBUTE, None) or Dispatch(client)


class Dispatch:
    """Wraps the handlers of one client, its connecting and its disconnecting."""

    def __init__(self, client: TelegramClient) -> None:
        _check_version()
        self._client: Any = client
        self._methods = NamedMethods(client, translated)
        self._bindings = SessionBindings()
        self._running: set[asyncio.Task[Any]] = set()
        """The tasks of handlers with sessions, running or waiting for these."""
        self._add_event_handler: Callable[..., None] = self._client.add_event_handler
        self._update_loop: Callable[[], Awaitable[None]] = self._client._update_loop
        self._disconnect: Callable[[], Awaitable[None]] = self._client._disconnect_coro

    def add(self, binding: SessionBinding[Any]) -> None:
        """Set up a manager; the first one wraps the handlers."""
        for _, callback in self._client._event_builders:
            binding.check_bound(_own(callback))
        self._bindings.add(binding, _NAMES_OF_TELETHON)
        if getattr(self._client, _ATTRIBUTE, None) is self:
            self._wrap_all()
            return
        setattr(self._client, _ATTRIBUTE, self)
        self._client.add_event_handler = self.add_event_handler
        self._client._update_loop = self.update_loop
        self._client._disconnect_coro = self.disconnect
        moves = events.Raw([_tl.UpdateNewMessage, _tl.UpdateNewChannelMessage], func=_is_move)
        self._client._event_builders.insert(0, (moves, self._follow_chat))
        self._wrap_all()

    def add_event_handler(self, callback: Callable[..., Any], event: Any = None) -> None:
        """The client's own method, with sessions."""
        self._bindings.check_bound(callback)
        self._add_event_handler(callback, event)
        self._wrap_all()

    async def update_loop(self) -> None:
        """Open the storages, and handle updates."""
        try:
            await self._bindings.start()
        except SessionError as error:  # Telethon would show it only at the end
            _log.error("the sessions' storage could not be opened, the next event will try again: %s", error)
        await self._update_loop()

    async def disconnect(self) -> None:
        """Wait for handlers with sessions, disconnect, and close the storages."""
        await asyncio.sleep(0)  # so that the handler of an event that has just arrived is among the running ones
        caller = _handler.get()
        if running := [task for task in self._running if task is not caller]:
            await asyncio.wait(running, timeout=_DRAIN_TIMEOUT)
        try:
            await self._disconnect()
        finally:
            await self._bindings.release(_DRAIN_TIMEOUT)

    async def serve(self, callback: Callable[..., Awaitable[Any]], event: Any, names: Collection[str]) -> Any:
        """Run a handler with its sessions."""
        task = asyncio.current_task()
        assert task is not None
        outer = task in self._running
        self._running.add(task)
        token = _handler.set(task)
        try:
            call = partial(callback, event)
            return await run_handler(self._scope(event), names, call, (events.StopPropagation,))
        finally:
            _handler.reset(token)
            if not outer:
                self._running.discard(task)

    def _wrap_all(self) -> None:
        builders = self._client._event_builders
        for index, (event, callback) in enumerate(builders):
            function = _own(callback)
            if function != self._follow_chat and (names := named_sessions(function, 1, self._bindings.names)):
                builders[index] = (event, _Handler(self, function, names))

    async def _follow_chat(self, update: Any) -> None:
        await self._scope(update).follow_chat()

    def _scope(self, event: Any) -> UpdateScope:
        return UpdateScope(self._bindings, context_of(self._client, event, self._methods))


class _Handler:
    """A handler with sessions. It is equal to the function that it wraps, so that Telethon finds and removes it."""

    def __init__(self, dispatch: Dispatch, function: Callable[..., Awaitable[Any]], names: Collection[str]) -> None:
        self.function = function
        self._dispatch = dispatch
        self._names = names
        self.__name__ = getattr(function, "__name__", repr(function))  # for Telethon's messages

    def __repr__(self) -> str:
        return repr(self.function)

    def __eq__(self, other: object) -> bool:
        return self.function == (other.function if isinstance(other, _Handler) else other)

    def __hash__(self) -> int:
        return hash(self.function)

    async def __call__(self, event: Any) -> Any:
        return await self._dispatch.serve(self.function, event, self._names)


def _own(callback: Callable[..., Any]) -> Callable[..., Any]:
    """The user's function."""
    return callback.function if isinstance(callback, _Handler) else callback


def _is_move(update: Any) -> bool:
    action = getattr(update.message, "action", None)
    return isinstance(action, (_tl.MessageActionChatMigrateTo, _tl.MessageActionChannelMigrateFrom))


def _check_version() -> None:
    if missing := [hook for hook in _HOOKS if not hasattr(TelegramClient, hook)]:
        raise SessionError(
            f"sessions need Telethon 1.40 or newer, below 2; the installed {telethon.__version__} has no "
            f"{', '.join(missing)}; install it by pip install 'chatsession[telethon]'"
        )

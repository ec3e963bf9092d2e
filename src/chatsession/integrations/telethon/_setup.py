"""Sessions in Telethon: handlers of events that name `session` or `ctx` get those of their chat."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

try:
    import telethon  # pyright: ignore[reportMissingTypeStubs] # there are none
    from telethon import TelegramClient, errors, events  # pyright: ignore[reportMissingTypeStubs]
    from telethon.tl import types  # pyright: ignore[reportMissingTypeStubs]
except ImportError as error:
    raise ImportError(
        "chatsession.integrations.telethon needs Telethon 1.40 or newer: pip install 'chatsession[telethon]'"
    ) from error

from chatsession.actions import Methods, RefusedError, RetryLaterError, UnreachableError
from chatsession.errors import SessionError
from chatsession.integrations._named_methods import NamedMethods
from chatsession.integrations.injection import named_sessions, run_handler
from chatsession.integrations.update_context import UpdateContext
from chatsession.integrations.update_scope import SessionBinding, SessionBindings, UpdateScope
from chatsession.integrations.update_session import LazySessionContext, SessionContext
from chatsession.manager import SessionManager

__all__ = ["LazySessionContext", "SessionContext", "UpdateContext", "setup_sessions"]

T = TypeVar("T")

_log = logging.getLogger("chatsession")

_tl: Any = types  # generated, and without annotations that pyright could follow
_NAMES_OF_TELETHON = frozenset(("event",))
_NEW_OR_EDITED: Any = events.NewMessage.Event
_ALBUM: Any = events.Album.Event
_PLACE = "_chatsession"
_HOOKS = ("add_event_handler", "_dispatch_update", "_update_loop", "_disconnect_coro")
_DRAIN_TIMEOUT = 30.0
_handler: ContextVar[asyncio.Task[Any] | None] = ContextVar("chatsession_telethon_handler", default=None)
"""The task of the handler that runs, as who disconnects from within one must not wait for himself."""


def setup_sessions(
    client: TelegramClient, sessions: SessionManager[T], *, lazy: bool = False, per_bot: bool = False
) -> None:
    """Give the handlers of a client the sessions of their chats.

    These have nothing to do with the client's login, which Telethon calls a session, too (`client.session`, the file
    `bot.session`): that one is never given to handlers, read or changed here, and its file is refused as a storage.
    Who would rather have another word gives the manager a name: with `SessionManager(…, name="pizza")` handlers name
    `pizza` and `pizza_ctx`.

    A handler that names `session` after the event gets the data; one that names `ctx` gets a `SessionContext`, to
    assign and delete. The session is locked and loaded before the handler runs, and committed after it: each handler
    of an update is a unit of work of its own, since Telethon runs the others also if one has failed. `StopPropagation`
    commits. For a handler that names neither, nothing is locked, read or written.

    The keys are those of the Bot API, so that the same bot finds its sessions in every framework. Updates of MTProto
    have no ids by which one that is delivered again could be known: `deduplicate` has no effect.

    The storage is opened when the client connects, or by the first event. It is closed when the client disconnects:
    before that, handlers with sessions are awaited for 30 seconds, while they can still answer; then Telethon cancels
    what runs. A handler that itself disconnects the client is cancelled by it, and its own change is not stored.

    Args:
        client: the client; its handlers may be registered before or after.
        sessions: the manager. Several, with different `name`s, can be set up side by side.
        lazy: read only when it is asked for: `session` is to be awaited, `ctx` is a `LazySessionContext`.
        per_bot: put the account's id before each key, as in `42:-1001234`, where several share a storage.

    Raises:
        TypeError: this is no `TelegramClient`.
        ValueError: handlers get something else under the manager's name already, or another manager that was set up
            has the same keys in the same storage.
        SessionError: this Telethon is too old.

    Examples:
        >>> import asyncio
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.telethon import SessionContext, setup_sessions
        >>> from telethon import TelegramClient, errors, events
        >>> from telethon.sessions import StringSession
        >>> async def main() -> None:
        ...     client = TelegramClient(StringSession(), 1, "api hash")
        ...     setup_sessions(client, SessionManager(dict[str, int], storage="memory:"))
        ...     @client.on(events.NewMessage(pattern="/reset"))
        ...     async def on_reset(event: events.NewMessage.Event, ctx: SessionContext[dict[str, int]]) -> None:
        ...         ctx.session = None
        >>> asyncio.run(main())
    """
    if not isinstance(client, TelegramClient):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass others
        raise TypeError(f"setup_sessions needs a TelegramClient, not a {type(client).__name__}")
    hub: _Hub = getattr(client, _PLACE, None) or _Hub(client)
    hub.add(SessionBinding(sessions, lazy=lazy, per_bot=per_bot))


class _Hub:
    """Wraps the handlers of one client, and knows when it connects and disconnects."""

    def __init__(self, client: TelegramClient) -> None:
        _check_version()
        self._client: Any = client
        self._methods = NamedMethods(client, _translated)
        self._bindings = SessionBindings()
        self._running: set[asyncio.Task[Any]] = set()
        """The tasks in which handlers with sessions run, or wait for these."""
        self._add_event_handler: Callable[..., None] = self._client.add_event_handler
        self._update_loop: Callable[[], Awaitable[None]] = self._client._update_loop
        self._disconnect: Callable[[], Awaitable[None]] = self._client._disconnect_coro

    def add(self, binding: SessionBinding[Any]) -> None:
        """Set up a manager; the first one wraps the handlers."""
        self._bindings.add(binding, _NAMES_OF_TELETHON)
        if getattr(self._client, _PLACE, None) is self:
            self._wrap_all()
            return
        setattr(self._client, _PLACE, self)
        self._client.add_event_handler = self.add_event_handler
        self._client._update_loop = self.update_loop
        self._client._disconnect_coro = self.disconnect
        moves = events.Raw([_tl.UpdateNewMessage, _tl.UpdateNewChannelMessage], func=_is_move)
        self._client._event_builders.insert(0, (moves, self._follow_chat))
        self._wrap_all()

    def add_event_handler(self, callback: Callable[..., Any], event: Any = None) -> None:
        """As the client's own, with sessions."""
        self._add_event_handler(callback, event)
        self._wrap_all()

    async def update_loop(self) -> None:
        """Open the storages, and handle updates."""
        try:
            await self._bindings.start()
        except SessionError as error:  # raised here, nobody would see it before the end
            _log.error("the sessions' storage could not be opened, the next event will try again: %s", error)
        await self._update_loop()

    async def disconnect(self) -> None:
        """Wait for handlers with sessions, disconnect, and close the storages."""
        await asyncio.sleep(0)  # an event that came just now takes its first step, by which it is known here
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
        for place, (event, callback) in enumerate(builders):
            function = callback.function if isinstance(callback, _Handler) else callback
            if function != self._follow_chat and (names := named_sessions(function, 1, self._bindings.names)):
                builders[place] = (event, _Handler(self, function, names))

    async def _follow_chat(self, update: Any) -> None:
        await self._scope(update).follow_chat()

    def _scope(self, event: Any) -> UpdateScope:
        return UpdateScope(self._bindings, _context(self._client, event, self._methods))


class _Handler:
    """A handler that asks for sessions; to Telethon, and to who removes it, it is the same as the one it wraps."""

    def __init__(self, hub: _Hub, function: Callable[..., Awaitable[Any]], names: Collection[str]) -> None:
        self.function = function
        self._hub = hub
        self._names = names
        self.__name__ = getattr(function, "__name__", repr(function))  # Telethon's messages have it

    def __repr__(self) -> str:
        return repr(self.function)

    def __eq__(self, other: object) -> bool:
        return self.function == (other.function if isinstance(other, _Handler) else other)

    def __hash__(self) -> int:
        return hash(self.function)

    async def __call__(self, event: Any) -> Any:
        return await self._hub.serve(self.function, event, self._names)


def _is_move(update: Any) -> bool:
    action = getattr(update.message, "action", None)
    return isinstance(action, (_tl.MessageActionChatMigrateTo, _tl.MessageActionChannelMigrateFrom))


def _context(client: Any, event: Any, methods: Methods) -> UpdateContext:
    update = getattr(event, "original_update", None) or event  # raw handlers get the update itself
    message = _message(event, update)
    action: Any = getattr(message, "action", None)
    return UpdateContext(
        chat_id=_chat_id(update) if message is None else _peer_id(message.peer_id),
        user_id=_user_id(update) if message is None else _sender_id(message),
        thread_id=_thread_id(message, action),
        business_connection_id=getattr(update, "connection_id", None),
        bot_id=client._self_id or 0,
        update=event,
        moved_from=-action.chat_id if isinstance(action, _tl.MessageActionChannelMigrateFrom) else None,
        moved_to=_channel(action.channel_id) if isinstance(action, _tl.MessageActionChatMigrateTo) else None,
        bot_methods=methods,
    )


def _translated(error: Exception) -> Exception:
    """See `Methods.translate`."""
    if isinstance(error, errors.FloodError):
        return RetryLaterError(getattr(error, "seconds", 1))
    if isinstance(error, errors.ServerError | errors.TimedOutError | OSError):
        return UnreachableError(type(error).__name__)
    return RefusedError(str(error)) if isinstance(error, errors.RPCError) else error


def _message(event: Any, update: Any) -> Any:
    if isinstance(event, _NEW_OR_EDITED):
        return event.message
    if isinstance(event, _ALBUM):
        return event.messages[0]
    message = getattr(update, "message", None)
    return message if hasattr(message, "peer_id") else None


def _sender_id(message: Any) -> int | None:
    """Of the user who wrote, or of the chat on whose behalf a member did; the posts of channels have no user."""
    if message.post:
        return None
    if message.sender_id is None and message.from_id is None:  # an anonymous admin, whose group stands for them
        return _peer_id(message.peer_id)
    return message.sender_id


def _chat_id(update: Any) -> int | None:
    if (peer := getattr(update, "peer", None)) is not None:
        return _peer_id(peer)
    if isinstance(update, _tl.UpdateBotStopped):
        return update.user_id
    if (channel_id := getattr(update, "channel_id", None)) is not None:
        return _channel(channel_id)
    group_id = getattr(update, "chat_id", None)
    return None if group_id is None else -group_id


def _peer_id(peer: Any) -> int:
    if isinstance(peer, _tl.PeerUser):
        return peer.user_id
    return -peer.chat_id if isinstance(peer, _tl.PeerChat) else _channel(peer.channel_id)


def _channel(channel_id: int) -> int:
    return -(10**12) - channel_id  # as the Bot API writes it


def _user_id(update: Any) -> int | None:
    actor: Any = getattr(update, "actor", None)
    if isinstance(actor, _tl.PeerUser):
        return actor.user_id
    return getattr(update, "actor_id", None) or getattr(update, "user_id", None)


def _thread_id(message: Any, action: Any) -> int | None:
    if isinstance(action, _tl.MessageActionTopicCreate):
        return message.id
    reply: Any = getattr(message, "reply_to", None)
    if not getattr(reply, "forum_topic", False):
        return None
    thread_id = reply.reply_to_top_id or reply.reply_to_msg_id
    return None if thread_id == 1 else thread_id  # the topic "General" has no id in the Bot API


def _check_version() -> None:
    if missing := [hook for hook in _HOOKS if not hasattr(TelegramClient, hook)]:
        raise SessionError(
            f"sessions need Telethon 1.40 or newer, below 2; the installed {telethon.__version__} has no "
            f"{', '.join(missing)}; install it by pip install 'chatsession[telethon]'"
        )

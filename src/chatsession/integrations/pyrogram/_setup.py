"""Sessions in Pyrogram's maintained fork, kurigram: handlers that name `session` or `ctx` get those of their chat."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from functools import partial, wraps
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

try:
    import pyrogram
    from pyrogram import ContinuePropagation, StopPropagation, errors, handlers, types, utils
    from pyrogram.dispatcher import Dispatcher
except ImportError as error:
    raise ImportError(
        "chatsession.integrations.pyrogram needs kurigram 2.2 or newer: pip install 'chatsession[pyrogram]'"
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

_tl: Any = pyrogram.raw  # whose types pyright does not find
_NAMES_OF_PYROGRAM = frozenset(("client",))
_PLACE = "_chatsession"
_ORIGINAL = "_chatsession_original"
_FIRST = -sys.maxsize
"""The group of what comes before all other handlers."""
_OF_NO_UPDATE: Any = tuple(
    vars(handlers).get(f"{what}Handler", ()) for what in ("Start", "Stop", "Connect", "Disconnect")
)
_FOR_ERRORS: Any = getattr(handlers, "ErrorHandler", ())


def setup_sessions(
    client: pyrogram.Client, sessions: SessionManager[T], *, lazy: bool = False, per_bot: bool = False
) -> None:
    """Give the handlers of a client the sessions of their chats.

    These have nothing to do with the client's login, which Pyrogram calls a session, too (`client.session`, the file
    `my_account.session`): that one is never given to handlers, read or changed here, and its file is refused as a
    storage. Who would rather have another word gives the manager a name: with `SessionManager(…, name="pizza")`
    handlers name `pizza` and `pizza_ctx`.

    A handler that names `session` after the client and the update gets the data; one that names `ctx` gets a
    `SessionContext`, to assign and delete. The session is locked and loaded before the handler runs, and committed
    after it: each handler of an update is a unit of work of its own, since Pyrogram runs those of further groups also
    if one has failed. `StopPropagation` and `ContinuePropagation` commit. For a handler that names neither, nothing is
    locked, read or written. A handler of errors runs after the failed one has ended, and gets a session of its own. A
    handler that is not `async` runs in its thread as ever.

    The keys are those of the Bot API, so that the same bot finds its sessions in every framework. Updates of MTProto
    have no ids by which one that is delivered again could be known: `deduplicate` has no effect.

    The storage is opened when the client starts, and closed when it stops, once all updates are handled that it has
    got. An update that waits for its chat occupies one of the client's `workers`.

    Args:
        client: the client; its handlers may be registered before or after, also by plugins.
        sessions: the manager. Several, with different `name`s, can be set up side by side.
        lazy: read only when it is asked for: `session` is to be awaited, `ctx` is a `LazySessionContext`.
        per_bot: put the account's id before each key, as in `42:-1001234`, where several share a storage.

    Raises:
        TypeError: this is no `Client`.
        ValueError: handlers get something else under the manager's name already, or another manager that was set up
            has the same keys in the same storage.
        SessionError: this kurigram is too old, or it is Pyrogram itself.

    Examples:
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.pyrogram import SessionContext, setup_sessions
        >>> from pyrogram import Client, filters
        >>> from pyrogram.types import Message
        >>> app = Client("pizza_bot", in_memory=True)
        >>> setup_sessions(app, SessionManager(dict[str, int], storage="memory:"))
        >>> async def on_reset(client: Client, message: Message, ctx: SessionContext[dict[str, int]]) -> None:
        ...     ctx.session = None
    """
    if not isinstance(client, pyrogram.Client):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass others
        raise TypeError(f"setup_sessions needs a pyrogram.Client, not a {type(client).__name__}")
    hub: _Hub = getattr(client, _PLACE, None) or _Hub(client)
    hub.add(SessionBinding(sessions, lazy=lazy, per_bot=per_bot))


class _Hub:
    """Wraps the handlers of one client, and knows when it starts and stops."""

    def __init__(self, client: pyrogram.Client) -> None:
        _check_version()
        self._client: Any = client
        self._dispatcher: Any = client.dispatcher
        self._methods = NamedMethods(client, _translated)
        self._bindings = SessionBindings()
        self._names: WeakKeyDictionary[Callable[..., object], Collection[str]] = WeakKeyDictionary()
        self._moves = _Moves(self._follow_chat)
        self._wrapping: asyncio.Task[None] | None = None
        self._add_handler: Callable[..., Any] = self._client.add_handler
        self._start: Callable[[], Awaitable[None]] = self._dispatcher.start
        self._stop: Callable[..., Awaitable[None]] = self._dispatcher.stop

    def add(self, binding: SessionBinding[Any]) -> None:
        """Set up a manager; the first one wraps the handlers."""
        self._bindings.add(binding, _NAMES_OF_PYROGRAM)
        self._names.clear()
        if getattr(self._client, _PLACE, None) is self:
            return
        setattr(self._client, _PLACE, self)
        self._client.add_handler = self.add_handler
        self._dispatcher.start = self.start
        self._dispatcher.stop = self.stop
        self._wrap_all()
        if self._client.is_initialized:
            self._dispatcher.add_handler(self._moves, _FIRST)
            self._wrapping = self._client.loop.create_task(self._wrap_those_on_their_way())

    def add_handler(self, handler: handlers.handler.Handler, group: int = 0) -> Any:
        """As the client's own, with sessions."""
        self._wrap(handler)
        return self._add_handler(handler, group)

    async def start(self) -> None:
        """Open the storages, and start to dispatch."""
        await self._bindings.start()
        await asyncio.sleep(0)  # handlers that were registered just before this are now where they can be found
        self._wrap_all()
        self._dispatcher.groups[_FIRST] = [self._moves]
        self._dispatcher.groups = OrderedDict(sorted(self._dispatcher.groups.items()))
        await self._start()

    async def stop(self, *args: Any, **kwargs: Any) -> None:
        """Let the workers handle what there is, and close the storages."""
        try:
            await self._stop(*args, **kwargs)
        finally:
            await self._bindings.release()

    def _wrap_all(self) -> None:
        for group in self._dispatcher.groups.values():
            for handler in group:
                self._wrap(handler)

    async def _wrap_those_on_their_way(self) -> None:
        """A client that runs takes handlers when all workers are idle, one after the other; wait in the same line."""
        locks = list(self._dispatcher.locks_list)
        for lock in locks:
            await lock.acquire()
        self._wrap_all()
        for lock in locks:
            lock.release()

    def _wrap(self, handler: Any) -> None:
        if isinstance(handler, (_OF_NO_UPDATE, _Moves)):
            return
        place = _place_of_callback(handler)
        function = getattr(handler, place)
        if not hasattr(function, _ORIGINAL):
            setattr(handler, place, self._wrapped(function, _given(handler)))

    def _wrapped(self, function: Callable[..., Any], given: int) -> Callable[..., Awaitable[Any]]:
        is_async = inspect.iscoroutinefunction(function)

        @wraps(function)
        async def serve(client: Any, *args: Any) -> Any:
            def call(**sessions: object) -> Awaitable[Any]:
                if is_async:
                    return function(client, *args, **sessions)
                return client.loop.run_in_executor(client.executor, partial(function, client, *args, **sessions))

            names = self._asked_for(function, given)
            if not names:
                return await call()
            updates: list[Any] = [*args]  # or what came with one; before it, handlers of errors get two other things
            scope = self._scope(client, updates[2 if given == 6 else 0])
            return await run_handler(scope, names, call, (StopPropagation, ContinuePropagation))

        setattr(serve, _ORIGINAL, function)
        return serve

    def _asked_for(self, function: Callable[..., Any], given: int) -> Collection[str]:
        try:
            names = self._names.get(function)
        except TypeError:  # it can be no key
            return named_sessions(function, given, self._bindings.names)
        if names is None:
            names = self._names[function] = named_sessions(function, given, self._bindings.names)
        return names

    async def _follow_chat(self, client: Any, message: Any) -> None:
        await self._scope(client, message).follow_chat()

    def _scope(self, client: Any, update: Any) -> UpdateScope:
        return UpdateScope(self._bindings, _context(client, update, self._methods))


class _Moves(handlers.MessageHandler):
    """Sees the service messages of a group that becomes a supergroup, before any other handler does."""

    async def check(self, client: Any, update: Any) -> bool:
        return update.migrate_to_chat_id is not None or update.migrate_from_chat_id is not None


def _place_of_callback(handler: Any) -> str:
    """The attribute of a handler behind which the user's function is; pyromod puts a method of its own before it."""
    if getattr(handler.callback, "__self__", None) is handler:
        return next((place for place in ("original_callback", "user_callback") if hasattr(handler, place)), "callback")
    return "callback"


def _given(handler: Any) -> int:
    """How many parameters of a handler are Pyrogram's."""
    if isinstance(handler, _FOR_ERRORS):
        return 6
    return 4 if isinstance(handler, handlers.RawUpdateHandler) else 2


def _context(client: Any, update: Any, methods: Methods) -> UpdateContext:
    bot_id = 0 if client.me is None else client.me.id
    if isinstance(update, _tl.core.TLObject):
        return _raw_context(bot_id, update, methods)
    if isinstance(update, list):  # of deleted messages, all of one chat
        update = cast("list[Any]", update)[0] if update else None
    message = update.message if isinstance(update, types.CallbackQuery) else update
    return UpdateContext(
        chat_id=_id(getattr(message, "chat", None)),
        user_id=_user_id(update),
        thread_id=_thread_id(message),
        business_connection_id=_business_connection_id(message),
        bot_id=bot_id,
        update=update,
        moved_from=getattr(update, "migrate_from_chat_id", None),
        moved_to=getattr(update, "migrate_to_chat_id", None),
        bot_methods=methods,
    )


def _translated(error: Exception) -> Exception:
    """See `Methods.translate`."""
    if isinstance(error, errors.FloodWait):
        return RetryLaterError(float(cast("Any", error).value))
    if isinstance(error, errors.InternalServerError | errors.ServiceUnavailable | OSError):
        return UnreachableError(type(error).__name__)
    return RefusedError(str(error)) if isinstance(error, errors.RPCError) else error


def _user_id(update: Any) -> int | None:
    if isinstance(update, types.Poll):
        return _id(update.voter) if isinstance(update.voter, types.User) else None
    if isinstance(update, types.ChatBoostUpdated):
        return _id(update.boost.from_user)
    user = getattr(update, "from_user", None) or getattr(update, "user", None)
    sender_chat = getattr(update, "sender_chat", None)
    return _id(user if user is None or sender_chat is None else sender_chat)


def _thread_id(message: Any) -> int | None:
    if getattr(message, "forum_topic_created", None) is not None:
        return message.id
    return _not_general(getattr(message, "message_thread_id", None))


def _business_connection_id(message: Any) -> str | None:
    if isinstance(message, types.BusinessConnection):
        return message.id
    return getattr(message, "business_connection_id", None)


def _id(of: Any) -> int | None:
    return None if of is None else of.id


def _raw_context(bot_id: int, update: Any, methods: Methods) -> UpdateContext:
    """Of an update that Pyrogram gives as it came: to raw handlers, to handlers of errors."""
    message = getattr(update, "message", None)
    holder = update if message is None or isinstance(message, str) else message
    peer: Any = getattr(holder, "peer_id", None) or getattr(holder, "peer", None)
    sender: Any = getattr(holder, "from_id", None)
    user_id = sender.user_id if isinstance(sender, _tl.types.PeerUser) else getattr(update, "user_id", None)
    if peer is not None:
        chat_id = utils.get_peer_id(peer)
    elif (channel_id := getattr(update, "channel_id", None)) is not None:
        chat_id = utils.get_channel_id(channel_id)
    else:
        group_id = getattr(update, "chat_id", None)
        chat_id = None if group_id is None else -group_id
    if user_id is None and sender is None and isinstance(peer, _tl.types.PeerUser):
        user_id = cast("Any", peer).user_id  # private chats leave out who wrote
    return UpdateContext(
        chat_id=chat_id,
        user_id=user_id,
        thread_id=_raw_thread_id(holder),
        business_connection_id=getattr(update, "connection_id", None),
        bot_id=bot_id,
        update=update,
        bot_methods=methods,
    )


def _raw_thread_id(message: Any) -> int | None:
    if isinstance(getattr(message, "action", None), _tl.types.MessageActionTopicCreate):
        return message.id
    reply: Any = getattr(message, "reply_to", None)
    if not getattr(reply, "forum_topic", False):
        return None
    return _not_general(reply.reply_to_top_id or reply.reply_to_msg_id)


def _not_general(thread_id: int | None) -> int | None:
    """The topic "General" has an id here, but none in the Bot API."""
    return None if thread_id == 1 else thread_id


def _check_version() -> None:
    required = ("start", "stop", "add_handler", "handler_worker")
    missing = [name for name in required if not hasattr(Dispatcher, name)]
    if missing or "clear_handlers" not in inspect.signature(Dispatcher.stop).parameters:
        raise SessionError(
            f"sessions need kurigram 2.2 or newer; the installed pyrogram {pyrogram.__version__} is not it; "
            "install it by pip install 'chatsession[pyrogram]'"
        )

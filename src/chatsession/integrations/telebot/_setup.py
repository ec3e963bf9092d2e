"""Sessions in pyTelegramBotAPI: handlers of an `AsyncTeleBot` or a `TeleBot` that name `session` or `ctx` get them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar, Unpack, cast, overload

try:
    from telebot import TeleBot, types
    from telebot.async_telebot import AsyncTeleBot
    from telebot.asyncio_storage import StateMemoryStorage
except ImportError as error:
    raise ImportError(
        "chatsession.integrations.telebot needs pyTelegramBotAPI 4.27 or newer: pip install 'chatsession[telebot]'"
    ) from error

from chatsession.errors import SessionError
from chatsession.integrations.injection import keywords_of
from chatsession.integrations.polling.delivery import note_undone
from chatsession.integrations.states.conversations import StateOptions
from chatsession.integrations.states.unit import StateUnit
from chatsession.integrations.telebot._handlers import NAMES_OF_TELEBOT, AskedSessions, check_hooks
from chatsession.integrations.telebot._ids import context_of, payloads
from chatsession.integrations.telebot._methods import methods_of_bot
from chatsession.integrations.telebot._polling import poll
from chatsession.integrations.telebot._states import SessionStateStorage, key_of
from chatsession.integrations.telebot._thread_states import SyncSessionStateStorage
from chatsession.integrations.telebot._threads import SyncSessionContext, thread_dispatch_of
from chatsession.integrations.update_context import UpdateContext
from chatsession.integrations.update_scope import SessionBinding, SessionBindings, UpdateScope
from chatsession.integrations.update_session import LazySessionContext, SessionContext
from chatsession.manager import SessionManager
from chatsession.storages import Storage
from chatsession.sync import SessionManager as SyncSessionManager

__all__ = [
    "LazySessionContext",
    "SessionContext",
    "SessionStateStorage",
    "StateOptions",
    "SyncSessionContext",
    "SyncSessionStateStorage",
    "UpdateContext",
    "setup_fsm",
    "setup_sessions",
    "start_polling",
]

T = TypeVar("T")

_log = logging.getLogger("chatsession")

_HOOKS = {
    "_run_middlewares_and_handlers": ("message", "handlers", "middlewares", "update_type"),
    "_process_polling": (),
    "_handle_exception": ("exception",),
    "process_new_updates": ("updates",),
    "close_session": (),
}
"""What the integration stands before, and the parameters on which it relies."""
_PLACE = "_chatsession"
_DRAIN_TIMEOUT = 30.0


@overload
def setup_sessions(
    bot: AsyncTeleBot, sessions: SessionManager[T], *, lazy: bool = False, per_bot: bool = False
) -> None: ...
@overload
def setup_sessions(
    bot: TeleBot, sessions: SyncSessionManager[T], *, lazy: bool = False, per_bot: bool = False
) -> None: ...
def setup_sessions(
    bot: AsyncTeleBot | TeleBot,
    sessions: SessionManager[T] | SyncSessionManager[T],
    *,
    lazy: bool = False,
    per_bot: bool = False,
) -> None:
    """Give the handlers of a bot their sessions.

    A handler that names `session` (or the `name` of the manager) after its first parameter gets the data; one that
    names `ctx` (or `<name>_ctx`) gets a `SessionContext`, to assign and delete. The session is locked and loaded
    before the handler runs and committed after the update, together for all handlers that `ContinueHandling` lets
    run. For a handler that names neither, nothing is locked, read or written. States, `data`, `pass_bot` and your own
    middlewares work beside it.

    Middlewares, and handlers that take `data`, find the context there under the same name, and load by
    `await data["ctx"].load_session()`. When a handler raises, nothing is stored, and the bot's `exception_handler` gets
    the error, as it gets one of the session itself (`SessionKeyError`, `StorageUnavailableError`, …).

    The storage is opened when the bot starts to poll, or by the first update. It is closed by `close_session`, which
    polling calls at its end, and which you call when a webhook's server stops: once the updates that the bot has got
    are handled, and while their handlers can still answer.

    A `TeleBot` takes a `chatsession.sync.SessionManager`. Its handlers run in threads and get a `SyncSessionContext`,
    by which nothing is awaited; callbacks of `register_next_step_handler` and `register_for_reply` name sessions as
    handlers do. Updates of a chat come to their sessions in the order in which they were received. The storage is
    closed when polling ends, and behind a webhook by `sessions.close()` or the end of the process.

    Args:
        bot: the bot; its handlers may be registered before or after.
        sessions: the manager: an asynchronous one for an `AsyncTeleBot`, one of `chatsession.sync` for a `TeleBot`.
            Several, with different `name`s, can be set up side by side.
        lazy: read only when it is asked for: `session` is to be awaited, `ctx` is a `LazySessionContext`. In a
            `TeleBot`, `session` asks for it, and so does `ctx.session`.
        per_bot: put the bot's id before each key, as in `42:-1001234`, where several bots share a storage.

    Raises:
        TypeError: this is no bot, or the manager is of the other kind.
        ValueError: handlers get something else under the manager's name already, another manager that was set up has
            the same keys in the same storage, or `per_bot` is asked for a bot whose token tells no id.
        SessionError: this pyTelegramBotAPI is too old.

    Examples:
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.telebot import SessionContext, setup_sessions
        >>> from telebot.async_telebot import AsyncTeleBot
        >>> from telebot.types import Message
        >>> bot = AsyncTeleBot("42:token")
        >>> setup_sessions(bot, SessionManager(dict[str, int], storage="memory:"))
        >>> @bot.message_handler(commands=["reset"])
        ... async def on_reset(message: Message, ctx: SessionContext[dict[str, int]]) -> None:
        ...     ctx.session = None
    """
    _check_kinds(bot, sessions)
    if per_bot and bot.bot_id is None:
        raise ValueError("per_bot needs the bot's id, and this bot's token does not begin with one")
    if isinstance(bot, AsyncTeleBot):
        assert isinstance(sessions, SessionManager)
        _dispatch_of(bot).add(SessionBinding(sessions, lazy=lazy, per_bot=per_bot))
    else:
        assert isinstance(sessions, SyncSessionManager)
        thread_dispatch_of(bot).add(sessions, lazy=lazy, per_bot=per_bot)


def _check_kinds(bot: object, sessions: object) -> None:
    if not isinstance(bot, (AsyncTeleBot, TeleBot)):
        raise TypeError(f"setup_sessions needs an AsyncTeleBot or a TeleBot, not a {type(bot).__name__}")
    wanted, module = (
        (SessionManager, "chatsession") if isinstance(bot, AsyncTeleBot) else (SyncSessionManager, "chatsession.sync")
    )
    if not isinstance(sessions, wanted):
        raise TypeError(
            f"{type(bot).__name__} needs a {module}.SessionManager, not a "
            f"{type(sessions).__module__.split('._')[0].removesuffix('.manager')}.{type(sessions).__name__}; "
            f"write from {module} import SessionManager"
        )


def setup_fsm(
    bot: AsyncTeleBot, storage: SessionStateStorage | Storage | str, **options: Unpack[StateOptions]
) -> SessionStateStorage:
    """Keep the states of a bot (`set_state`, `retrieve_data`, `StateContext`) on one of the project's storages.

    Updates of one user in one chat run one after another. The state and its data are read once for each update, and
    written once, when the update is done. Where a handler fails, they stay as they were, and so do the sessions that
    `setup_sessions` gives to the same update: all are prepared together, then committed together.

    Outside of an update each call is atomic by itself. A call for another user inside a handler is stored at once and
    waits for nobody, so that two handlers that reach for each other's user do not wait in a circle.

    Args:
        bot: the bot, made without `state_storage`; its handlers may be registered before or after.
        storage: a URL for `open_storage`, a `Storage`, such as `sessions.storage`, or a `SessionStateStorage`.
        **options: see `StateOptions`; `prefix` is `"telebot:"` unless another is given.

    Returns:
        The storage, which is connected when the bot starts to poll, and closed with it.

    Raises:
        TypeError: this is no `AsyncTeleBot`.
        ValueError: the bot has another state storage already.
        StorageError: the URL is wrong.
        SessionError: this pyTelegramBotAPI is too old.

    Examples:
        >>> from chatsession.integrations.telebot import setup_fsm
        >>> from telebot.async_telebot import AsyncTeleBot
        >>> bot = AsyncTeleBot("42:token")
        >>> storage = setup_fsm(bot, "sqlite:///bot.db")
    """
    if not isinstance(bot, AsyncTeleBot):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass the sync bot
        raise TypeError(
            f"setup_fsm needs an AsyncTeleBot, not a {type(bot).__name__}; "
            "a TeleBot is made with state_storage=SyncSessionStateStorage(…)"
        )
    if not isinstance(storage, SessionStateStorage):
        storage = SessionStateStorage(storage, **options)
    elif options:
        raise TypeError("options go to the SessionStateStorage that is passed, not to setup_fsm")
    if bot.current_states is not storage and type(bot.current_states) is not StateMemoryStorage:
        raise ValueError(
            f"the bot has state_storage={type(bot.current_states).__name__} already, whose data setup_fsm would not "
            "use; make it without state_storage, and import the data if it must be kept "
            "(chatsession.importers.telebot_states)"
        )
    bot.current_states = storage
    _dispatch_of(bot).states = storage
    return storage


def _dispatch_of(bot: AsyncTeleBot) -> _Dispatch:
    """What stands before the places of this bot."""
    return cast("_Dispatch | None", vars(bot).get(_PLACE)) or _Dispatch(bot)


async def start_polling(
    bot: AsyncTeleBot,
    *,
    timeout: int = 20,
    allowed_updates: Sequence[str] | None = None,
    handle_signals: bool = True,
    max_deliveries: int = 5,
    drain_timeout: float = 30.0,
) -> None:
    """Poll, and confirm each update to Telegram when it is done; in place of `bot.infinity_polling`.

    pyTelegramBotAPI confirms an update when it has fetched it, so that a crash loses what was being handled. Here an
    update is confirmed when its handlers have returned or failed, its sessions are committed, and what was handed to
    `after_commit` is sent. After a crash, Telegram delivers again what was not done; sessions with `deduplicate=100`
    know what they have committed. At most 100 updates, or as many as the smallest `deduplicate`, are under way.

    An update whose session could not be locked, stored or answered for (`SessionConflictError`,
    `SessionLockTimeoutError`, `SessionUnsentError`, `StorageUnavailableError`) is handled again after a pause.
    Errors of the network, and of another process that polls for the same bot, are logged and tried again.

    SIGTERM and SIGINT end it: nothing more is fetched, what runs is awaited, what is done is confirmed, and the
    connections are closed.

    Args:
        bot: for which `setup_sessions` was called.
        timeout: seconds of a long poll.
        allowed_updates: kinds of updates; without it, what was asked for last.
        handle_signals: end at SIGTERM and SIGINT.
        max_deliveries: an update that has taken the process down so often is set aside: logged, confirmed, and shown
            by `chatsession updates`.
        drain_timeout: seconds to wait for what runs at the end; what is not done then is delivered again.

    Raises:
        ValueError: `setup_sessions` was not called, or `max_deliveries` is less than 2.

    Examples:
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.telebot import setup_sessions, start_polling
        >>> from telebot.async_telebot import AsyncTeleBot
        >>> async def main() -> None:
        ...     bot = AsyncTeleBot("42:token")
        ...     setup_sessions(bot, SessionManager(dict[str, int], storage="memory:", deduplicate=100))
        ...     await start_polling(bot)
    """
    dispatch = cast("_Dispatch | None", vars(bot).get(_PLACE))
    if dispatch is None:
        raise ValueError("start_polling comes after setup_sessions(bot, sessions)")
    await poll(
        bot,
        dispatch.bindings,
        dispatch.start,
        timeout=timeout,
        allowed_updates=allowed_updates,
        handle_signals=handle_signals,
        max_deliveries=max_deliveries,
        drain_timeout=drain_timeout,
    )


class _Dispatch:
    """Stands before the places of one bot where updates come in, are handled, and come to an end."""

    def __init__(self, bot: AsyncTeleBot) -> None:
        check_hooks(AsyncTeleBot, _HOOKS)
        self._bot: Any = bot
        self._methods = methods_of_bot(bot)
        self.bindings = SessionBindings()
        self.asked = AskedSessions(self.bindings)
        self._coming: dict[int, int] = {}
        """The updates that may still want their sessions: by what their handlers get, their ids."""
        self._none_coming: asyncio.Future[None] | None = None
        self._process: Callable[[Sequence[types.Update]], Awaitable[None]] = self._bot.process_new_updates
        self._run: Callable[..., Awaitable[None]] = self._bot._run_middlewares_and_handlers
        self._poll: Callable[..., Awaitable[None]] = self._bot._process_polling
        self._close: Callable[[], Awaitable[None]] = self._bot.close_session
        self.states: SessionStateStorage | None = None
        """The storage of the bot's states, if `setup_fsm` has set it up."""
        setattr(self._bot, _PLACE, self)
        self._bot.process_new_updates = self.process
        self._bot._run_middlewares_and_handlers = self.run
        self._bot._process_polling = self.poll
        self._bot.close_session = self.close

    def add(self, binding: SessionBinding[Any]) -> None:
        """Set up a manager."""
        self.bindings.add(binding, NAMES_OF_TELEBOT)
        self.asked.clear()

    async def process(self, updates: Sequence[types.Update]) -> None:
        """Handle a batch; here only are the ids of its updates known."""
        coming = {id(payload): update.update_id for update in updates for payload in payloads(update)}
        self._coming.update(coming)
        try:
            await self._process(updates)
        finally:
            for payload in coming:
                self._has_come(payload)

    async def run(self, payload: object, handlers: Any, middlewares: Any, update_type: str) -> None:
        """Handle one update."""
        try:
            await self._handle(payload, handlers, middlewares, update_type)
        except SessionError as error:  # raised from here, it would take the rest of the batch with it
            note_undone(error)
            if not await self._bot._handle_exception(error):
                _log.error("an update was not handled, or what it did to its session is lost: %s", error)
        finally:
            self._has_come(id(payload))

    async def _handle(self, payload: object, handlers: Any, middlewares: Any, update_type: str) -> None:
        context = context_of(self._bot, payload, self._coming.get(id(payload)), self._methods)
        scope = UpdateScope(self.bindings, context)
        edge = _Edge(scope)
        calls = ({**handler, "function": _Call(self, handler["function"], payload, edge)} for handler in handlers or ())
        async with self._states_of(payload) as states:
            if states is not None:
                edge.states = states
                scope.beside = states.identify(scope.context.update_id)
            try:
                if scope.context.moves_chat:
                    await _follow_chat(scope)
                await self._run(payload, calls, [edge, *(middlewares or ())], update_type)
            except BaseException:
                await edge.abort()
                raise
            if edge.exception is not None:
                note_undone(edge.exception)
                await edge.abort()
            elif states is None:
                await scope.commit()
            else:
                states.add(scope)

    def _states_of(self, payload: object) -> AbstractAsyncContextManager[StateUnit | None]:
        """Lock the conversation of an update, which is committed when the block ends."""
        key = None if self.states is None else key_of(payload, self._bot.bot_id)
        return nullcontext() if self.states is None or key is None else self.states.states.unit(key)

    async def poll(self, *args: Any, **kwargs: Any) -> None:
        """Open the storages, and poll."""
        await self.start()
        await self._poll(*args, **kwargs)

    async def start(self) -> None:
        """Open the storages."""
        await self.bindings.start()
        if self.states is not None:
            await self.states.start()

    async def close(self) -> None:
        """Close the storages, then the connection to Telegram, by which handlers may still answer until then."""
        try:
            await asyncio.sleep(0)  # what was received just now takes its first step, by which it is known here
            if self._coming:
                self._none_coming = self._none_coming or asyncio.get_running_loop().create_future()
                await asyncio.wait([self._none_coming], timeout=_DRAIN_TIMEOUT)
            await self.bindings.release(_DRAIN_TIMEOUT)
            if self.states is not None:
                await self.states.close()
        finally:
            await self._close()

    def goes_without(self, payload: object) -> None:
        """A handler that names no session begins; it may take its time also when the bot stops."""
        self._has_come(id(payload))

    def _has_come(self, payload: int) -> None:
        self._coming.pop(payload, None)
        if self._none_coming is not None and not self._coming:
            self._none_coming.set_result(None)
            self._none_coming = None


class _Edge:
    """Goes first among the middlewares: gives the contexts to all that follow, and learns how the update ended."""

    update_sensitive = False

    def __init__(self, scope: UpdateScope) -> None:
        self.scope = scope
        self.data: dict[str, object] = {}
        self.exception: Exception | None = None
        self.states: StateUnit | None = None
        self._contexts = scope.contexts

    async def pre_process(self, message: object, data: dict[str, object]) -> None:
        self.data = data
        data.update(self._contexts)

    async def post_process(self, message: object, data: dict[str, object], exception: Exception | None) -> None:
        self.exception = exception

    async def abort(self) -> None:
        """A handler failed: write nothing. May be called twice."""
        await self.scope.abort()
        if self.states is not None:
            await self.states.abort()

    def check(self) -> None:
        """Raises `SessionNameError` if a middleware has given handlers something else under the name of a session."""
        self.scope.bindings.check_given(self.data, "from a middleware")


class _Call:
    """A handler in one update: telebot sees its other parameters, and calls it by these."""

    def __init__(
        self, dispatch: _Dispatch, function: Callable[..., Awaitable[Any]], payload: object, edge: _Edge
    ) -> None:
        self._dispatch = dispatch
        self._function = function
        self._payload = payload
        self._edge = edge

    def __repr__(self) -> str:
        return repr(self._function)  # telebot's messages have it

    @property
    def __signature__(self) -> inspect.Signature:
        return self._dispatch.asked.by(self._function)[1]

    async def __call__(self, *args: object, **kwargs: object) -> object:
        scope = self._edge.scope
        names, signature = self._dispatch.asked.by(self._function)
        if not names and "data" not in signature.parameters:
            self._dispatch.goes_without(self._payload)
        try:
            self._edge.check()
            given = await keywords_of(scope, names)
            if given is None:
                return None
            return await self._function(*args, **kwargs, **given)
        except BaseException:
            await self._edge.abort()  # now, since telebot goes on with the bot's exception_handler
            raise


async def _follow_chat(scope: UpdateScope) -> None:
    try:
        await scope.follow_chat()
    except SessionError:
        raise
    except Exception as error:  # of a `get_session_key`
        raise SessionError(f"the sessions of a chat that moved could not follow it: {error!r}") from error

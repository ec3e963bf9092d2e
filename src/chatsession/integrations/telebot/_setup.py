"""Give the handlers of a bot their sessions, keep its states, and poll."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar, Unpack, overload

from telebot import TeleBot
from telebot.async_telebot import AsyncTeleBot
from telebot.asyncio_storage import StateMemoryStorage

from chatsession.integrations.polling.setup import make_poller
from chatsession.integrations.states.options import StateOptions
from chatsession.integrations.telebot._dispatch import dispatch_of
from chatsession.integrations.telebot._handlers import is_set_up
from chatsession.integrations.telebot._polling import AsyncApi, poll
from chatsession.integrations.telebot._states import SessionStateStorage
from chatsession.integrations.telebot._thread_dispatch import thread_dispatch_of
from chatsession.integrations.telebot._thread_polling import ThreadApi, poll_in_threads
from chatsession.integrations.update_scope import SessionBinding
from chatsession.manager import SessionManager
from chatsession.storages import Storage
from chatsession.sync import SessionManager as SyncSessionManager

T = TypeVar("T")


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
        dispatch_of(bot).add(SessionBinding(sessions, lazy=lazy, per_bot=per_bot))
    else:
        assert isinstance(sessions, SyncSessionManager)
        thread_dispatch_of(bot).add_manager(sessions, lazy=lazy, per_bot=per_bot)


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
    dispatch_of(bot).states = storage
    return storage


@overload
def start_polling(
    bot: AsyncTeleBot,
    *,
    timeout: int = 20,
    allowed_updates: Sequence[str] | None = None,
    handle_signals: bool = True,
    max_deliveries: int = 5,
    drain_timeout: float = 30.0,
) -> Coroutine[Any, Any, None]: ...
@overload
def start_polling(
    bot: TeleBot,
    *,
    timeout: int = 20,
    allowed_updates: Sequence[str] | None = None,
    handle_signals: bool = True,
    max_deliveries: int = 5,
    drain_timeout: float = 30.0,
) -> None: ...
def start_polling(
    bot: AsyncTeleBot | TeleBot,
    *,
    timeout: int = 20,
    allowed_updates: Sequence[str] | None = None,
    handle_signals: bool = True,
    max_deliveries: int = 5,
    drain_timeout: float = 30.0,
) -> Coroutine[Any, Any, None] | None:
    """Poll, and confirm each update to Telegram when it is done; in place of `bot.infinity_polling`.

    `await start_polling(bot)` for an `AsyncTeleBot`. For a `TeleBot`, `start_polling(bot)` returns when polling has
    ended; `bot.stop_polling()` and `bot.stop_bot()`, which also ends the bot's threads, end it, too, and do not wait.

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
        bot: for which `setup_sessions` was called. Errors of a `TeleBot`'s handlers go to its `exception_handler`, or
            are logged, and do not end the polling.
        timeout: seconds of a long poll.
        allowed_updates: kinds of updates; without it, what was asked for last.
        handle_signals: end at SIGTERM and SIGINT; a `TeleBot`, if this is the main thread.
        max_deliveries: an update that has taken the process down so often is set aside: logged, confirmed, and shown
            by `chatsession updates`.
        drain_timeout: seconds to wait for what runs at the end; what is not done then is delivered again.

    Raises:
        ValueError: `setup_sessions` was not called, or `max_deliveries` is less than 2.
        RuntimeError: the bot is being polled for already.

    Examples:
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.telebot import setup_sessions, start_polling
        >>> from telebot.async_telebot import AsyncTeleBot
        >>> async def main() -> None:
        ...     bot = AsyncTeleBot("42:token")
        ...     setup_sessions(bot, SessionManager(dict[str, int], storage="memory:", deduplicate=100))
        ...     await start_polling(bot)
    """
    if not is_set_up(bot):
        raise ValueError("start_polling comes after setup_sessions(bot, sessions)")
    allowed = None if allowed_updates is None else list(allowed_updates)
    poller_of = partial(make_poller, timeout=timeout, drain=drain_timeout, max_deliveries=max_deliveries)
    if isinstance(bot, AsyncTeleBot):
        dispatch = dispatch_of(bot)
        poller = poller_of(bot.bot_id or 0, AsyncApi(bot, dispatch, allowed), dispatch.bindings)
        return poll(bot, dispatch, poller, handle_signals=handle_signals)
    threads = thread_dispatch_of(bot)
    api = ThreadApi(bot, threads, allowed)
    poller = poller_of(bot.bot_id or 0, api, threads.bindings)
    return poll_in_threads(bot, threads, api, poller, handle_signals=handle_signals)

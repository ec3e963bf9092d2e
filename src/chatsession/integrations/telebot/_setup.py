"""What users call: `setup_sessions`, `setup_fsm` and `start_polling`."""

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
    """Give sessions to the handlers of a bot.

    A handler that names `session` (or the `name` of the manager) after its first parameter gets the data. One that
    names `ctx` (or `<name>_ctx`) gets a `SessionContext`, to assign and delete the session. The session is locked and
    loaded before the handler runs, and committed after the update, together for all handlers that run by
    `ContinueHandling`. For handlers that name neither, nothing is locked, read or written. States, `data`, `pass_bot`
    and your own middlewares keep working.

    Middlewares, and handlers that take `data`, find the context in `data` under the same name, and load the session by
    `await data["ctx"].load_session()`. When a handler raises, nothing is stored. The bot's `exception_handler` gets
    its error, and those of sessions (`SessionKeyError`, `StorageUnavailableError`, …).

    The storage is opened when polling starts, or by the first update. `bot.close_session` closes it after the updates
    that were received, while their handlers can still answer. Polling calls it at its end. Behind a webhook, call it
    when the server stops.

    A `TeleBot` takes a `chatsession.sync.SessionManager`. Its handlers run in threads and get a `SyncSessionContext`,
    with which nothing is awaited. Callbacks of `register_next_step_handler` and `register_for_reply` name sessions,
    too. Updates of a chat get their session in the order in which they were received. The storage is closed when
    polling ends; behind a webhook, by `sessions.close()` or at the end of the process.

    Args:
        bot: the bot. Its handlers may be registered before or after.
        sessions: the manager: an asynchronous one for an `AsyncTeleBot`, one of `chatsession.sync` for a `TeleBot`.
            You can set up several with different `name`s.
        lazy: load a session only when it is used: `session` must be awaited, and `ctx` is a `LazySessionContext`. In a
            `TeleBot`, `session` and `ctx.session` load it.
        per_bot: put the bot's id before each key, as in `42:-1001234`, for bots that share a storage.

    Raises:
        TypeError: this is not a bot, or the manager is of the other kind.
        ValueError: handlers get something else under the manager's name, another manager of the bot has the same keys
            in the same storage, or `per_bot` is set and the bot's token does not contain an id.
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

    Updates of one user in one chat run one after another. Each update reads the state and its data once, and writes
    them once, at its end. If a handler fails, they stay as they were, and so do the sessions of the update: all are
    prepared together, then committed together.

    Outside of an update, each call is atomic by itself. Inside a handler, a call for another user is stored at once
    and waits for nobody, so that two handlers never wait for each other.

    Args:
        bot: the bot, made without `state_storage`. Its handlers may be registered before or after.
        storage: a URL for `open_storage`, a `Storage`, such as `sessions.storage`, or a `SessionStateStorage`.
        **options: see `StateOptions`; `prefix` is `"telebot:"` unless another is given.

    Returns:
        The storage. It is connected when the bot starts to poll, and closed with the last of its bots.

    Raises:
        TypeError: this is not an `AsyncTeleBot`.
        ValueError: the bot has another state storage.
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

    Await it for an `AsyncTeleBot`. For a `TeleBot` it returns when polling has ended. `bot.stop_polling()` ends it
    without waiting, and so does `bot.stop_bot()`, which also ends the bot's threads.

    pyTelegramBotAPI confirms an update when it fetches it, so a crash loses the updates that run. Here an update is
    confirmed when its handlers have returned or failed, its sessions are committed, and its `after_commit` actions are
    sent. After a crash, Telegram delivers again what was not done. Sessions with `deduplicate=100` know what they have
    committed. At most 100 updates, or as many as the smallest `deduplicate`, run at the same time.

    An update whose session could not be locked or stored, or whose actions could not be sent (`SessionConflictError`,
    `SessionLockTimeoutError`, `StorageUnavailableError`, `SessionUnsentError`), is handled again after a pause. Errors
    of the network, and conflicts with another process that polls for the same bot, are logged and retried.

    At SIGTERM and SIGINT nothing more is fetched, updates that run are awaited, those that are done are confirmed, and
    the connections are closed.

    Args:
        bot: the bot, after `setup_sessions`. Errors of a `TeleBot`'s handlers go to its `exception_handler`, or to the
            log, and do not end the polling.
        timeout: seconds of a long poll.
        allowed_updates: the kinds of updates to fetch; `None`: as in the last request.
        handle_signals: end at SIGTERM and SIGINT; for a `TeleBot`, only in the main thread.
        max_deliveries: an update that has crashed the process this often is set aside: logged, confirmed, and shown by
            `chatsession updates`.
        drain_timeout: seconds to wait at the end for updates that run; those not done then are delivered again.

    Raises:
        ValueError: `setup_sessions` was not called, or `max_deliveries` is less than 2.
        RuntimeError: the bot is being polled for already, or the threads of a `TeleBot` do not run in this process.

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
        states = [] if dispatch.states is None else [dispatch.states.sessions]
        managers = [*dispatch.bindings.managers, *states]
        poller = poller_of(bot.bot_id or 0, AsyncApi(bot, dispatch, allowed), managers)
        return poll(bot, dispatch, poller, handle_signals=handle_signals)
    threads = thread_dispatch_of(bot)
    api = ThreadApi(bot, threads, allowed)
    poller = poller_of(bot.bot_id or 0, api, threads.bindings.managers)
    return poll_in_threads(bot, threads, api, poller, handle_signals=handle_signals)

"""Give the handlers of a dispatcher their sessions, keep its FSM, and poll."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, Unpack

from aiogram import Bot, Dispatcher

from chatsession.integrations.aiogram._dispatch import middleware_of
from chatsession.integrations.aiogram._fsm import (
    SessionFSMStorage,
    plug_in,
)
from chatsession.integrations.aiogram._polling import start_polling as poll
from chatsession.integrations.states.options import StateOptions
from chatsession.integrations.update_scope import SessionBinding
from chatsession.manager import SessionManager
from chatsession.storages import Storage

T = TypeVar("T")

_NAMES_OF_AIOGRAM = frozenset(
    (
        *("bot", "bots", "dispatcher", "router", "handler", "state", "raw_state", "fsm_storage", "scenes"),
        *("event_update", "event_router", "event_context", "event_from_user", "event_chat", "event_thread_id"),
    )
)


def setup_sessions(
    dispatcher: Dispatcher, sessions: SessionManager[T], *, lazy: bool = False, per_bot: bool = False
) -> None:
    """Give the handlers of a dispatcher their sessions.

    A handler that names `session` (or the `name` of the manager) gets the data; one that names `ctx` (or
    `<name>_ctx`) gets a `SessionContext`, to assign and delete. The session is locked and loaded as the last step
    before the handler, after all middlewares, and committed after the update, together for all its handlers. For a
    handler that names neither, nothing is locked, read or written. A decorator hides what a handler names unless it
    uses `functools.wraps` or passes its own `**kwargs` on. In a handler with `**kwargs`, and in a class-based one, the
    name in its code counts, as in `self.data["session"]`.

    Filters and middlewares get the context under the same name, and load by `await ctx.load_session()`. What they load
    is the session that the handler then gets, and what they change is stored also if nobody handles the update. A
    middleware that waits, for the other photos of an album, say, does so before it loads. A middleware that runs the
    updates of a chat in a task of its own is registered before this call, by `dp.update.outer_middleware`, so that an
    update is committed before the task takes the next one.

    Nobody else may give handlers something under the manager's name, as projects with SQLAlchemy give `session`:
    that is a `SessionNameError`, raised here, at startup or by the first update, whichever can tell first. Give the
    manager a name of its own, as in `SessionManager(…, name="state_")`.

    Handlers and actions of scenes name it like any other. A handler of errors runs after the failed update has
    ended, and gets a session of its own.

    The storage is opened at the start of the dispatcher, and closed at its shutdown, once the handlers that still run
    are done.

    The sessions of several managers are locked in the order in which they were set up. Where filters load them, keep
    to that order, or two updates could wait for each other until `lock_timeout`.

    Args:
        dispatcher: the dispatcher; its routers may be included before or after.
        sessions: the manager. Several, with different `name`s, can be set up side by side.
        lazy: read only when it is asked for: `session` is to be awaited, `ctx` is a `LazySessionContext`.
        per_bot: put the bot's id before each key, as in `42:-1001234`, where several bots share a storage.

    Raises:
        SessionNameError: handlers get something else under the manager's name already.
        ValueError: another manager that was set up has the same keys in the same storage.

    Examples:
        >>> from aiogram import Dispatcher, F
        >>> from aiogram.types import Message
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.aiogram import SessionContext, setup_sessions
        >>> dp = Dispatcher()
        >>> setup_sessions(dp, SessionManager(dict[str, int], storage="memory:"))
        >>> @dp.message(F.text == "/reset")
        ... async def on_reset(message: Message, ctx: SessionContext[dict[str, int]]) -> None:
        ...     ctx.session = None
    """
    if not isinstance(dispatcher, Dispatcher):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass routers
        raise TypeError(f"setup_sessions needs the Dispatcher, not a {type(dispatcher).__name__}; routers share it")
    binding = SessionBinding(sessions, lazy=lazy, per_bot=per_bot)
    binding.check_names(dispatcher.workflow_data, "from the dispatcher's data")
    middleware_of(dispatcher).bindings.add(binding, _NAMES_OF_AIOGRAM)


def setup_fsm(
    dispatcher: Dispatcher, storage: SessionFSMStorage | Storage | str, **options: Unpack[StateOptions]
) -> SessionFSMStorage:
    """Keep the FSM of a dispatcher (`FSMContext`, scenes, `raw_state`) on one of the project's storages.

    Updates of one conversation run one after another. Its state and its data are read once for each update, and
    written once, when the update is done. Where a handler fails, they stay as they were, and so do the sessions that
    `setup_sessions` gives to the same update: all are prepared together, then committed together.

    Outside of an update (in jobs, in tasks that a handler left running, in handlers of errors, which run after the
    failed update has ended) each call of an `FSMContext` is atomic by itself. A call for another user inside a handler
    is stored at once and waits for nobody, so that two handlers that reach for each other's user do not wait in a
    circle.

    Args:
        dispatcher: made without `storage` and `events_isolation`; its `fsm_strategy` counts.
        storage: a URL for `open_storage`, a `Storage`, such as `sessions.storage`, or a `SessionFSMStorage`.
        **options: see `StateOptions`; `prefix` is `"aiogram:"` unless another is given.

    Returns:
        The storage, which is connected when the dispatcher starts, and closed with it.

    Raises:
        ValueError: the dispatcher has another storage or isolation already, or no FSM.
        StorageError: the URL is wrong.

    Examples:
        >>> from aiogram import Dispatcher
        >>> from chatsession.integrations.aiogram import setup_fsm
        >>> dp = Dispatcher()
        >>> storage = setup_fsm(dp, "sqlite:///bot.db")
    """
    if not isinstance(dispatcher, Dispatcher):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass routers
        raise TypeError(f"setup_fsm needs the Dispatcher, not a {type(dispatcher).__name__}; routers share it")
    if not isinstance(storage, SessionFSMStorage):
        storage = SessionFSMStorage(storage, **options)
    elif options:
        raise TypeError("options go to the SessionFSMStorage that is passed, not to setup_fsm")
    plug_in(dispatcher, storage)
    if storage.sessions.options.deduplicate:
        middleware_of(dispatcher)
    return storage


async def start_polling(
    dispatcher: Dispatcher,
    *bots: Bot,
    polling_timeout: int = 10,
    allowed_updates: Sequence[str] | None = None,
    handle_signals: bool = True,
    close_bot_session: bool = True,
    tasks_concurrency_limit: int | None = None,
    max_deliveries: int = 5,
    drain_timeout: float = 30.0,
    **data: Any,
) -> None:
    """Poll, and confirm each update to Telegram when it is done; in place of `dispatcher.start_polling`.

    aiogram confirms an update when it has fetched it, so that a crash loses what was being handled. Here an update is
    confirmed when its handlers have returned or failed, its sessions are committed, and what was handed to
    `after_commit` is sent. After a crash, Telegram delivers again what was not done; sessions with `deduplicate=100`
    know what they have committed. At most 100 updates, or as many as the smallest `deduplicate`, are under way.

    An update whose session could not be locked, stored or answered for (`SessionConflictError`,
    `SessionLockTimeoutError`, `SessionUnsentError`, `StorageUnavailableError`) is handled again after a pause.
    Errors of the network, and of another process that polls for the same bot, are logged and tried again.

    SIGTERM, SIGINT and `dispatcher.stop_polling()` end it: nothing more is fetched, what runs is awaited, what is done
    is confirmed. A second signal does not hurry it. A handler may call `stop_polling()`, which does not wait there.

    Args:
        dispatcher: for which `setup_sessions` was called.
        *bots: to poll for.
        polling_timeout: seconds of a long poll.
        allowed_updates: kinds of updates; without it, those that have handlers.
        handle_signals: end at SIGTERM and SIGINT.
        close_bot_session: close the bots' connections at the end.
        tasks_concurrency_limit: updates under way at most, for each bot; without it, 100.
        max_deliveries: an update that has taken the process down so often is set aside: logged, confirmed, and shown
            by `chatsession updates`.
        drain_timeout: seconds to wait for what runs at the end; what is not done then is delivered again.
        **data: for handlers and middlewares, as in aiogram.

    Raises:
        ValueError: there is no bot, or `max_deliveries` is less than 2.
        TypeError: an option of aiogram's own polling has no meaning here: `handle_as_tasks`, `backoff_config`.
        RuntimeError: the dispatcher is polling already.

    Examples:
        >>> from aiogram import Bot, Dispatcher
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.aiogram import setup_sessions, start_polling
        >>> async def main() -> None:
        ...     dp = Dispatcher()
        ...     setup_sessions(dp, SessionManager(dict[str, int], storage="sqlite:///bot.db", deduplicate=100))
        ...     await start_polling(dp, Bot("42:token"))
    """
    states = dispatcher.fsm.storage
    await poll(
        dispatcher,
        *bots,
        managers=[
            *middleware_of(dispatcher).bindings.managers,
            *([states.sessions] if isinstance(states, SessionFSMStorage) else []),
        ],
        polling_timeout=polling_timeout,
        allowed_updates=dispatcher.resolve_used_update_types() if allowed_updates is None else list(allowed_updates),
        handle_signals=handle_signals,
        close_bot_session=close_bot_session,
        tasks_concurrency_limit=tasks_concurrency_limit,
        max_deliveries=max_deliveries,
        drain_timeout=drain_timeout,
        data=data,
    )

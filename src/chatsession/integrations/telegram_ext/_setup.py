"""Give the contexts of an application their sessions, keep its data, and poll."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar, Unpack, cast

import telegram
from telegram.ext import Application, PersistenceInput

from chatsession.integrations.polling.setup import check_max_deliveries
from chatsession.integrations.states.options import StateOptions
from chatsession.integrations.telegram_ext._application import ErrorHandler, ServedApplication
from chatsession.integrations.telegram_ext._context import serve_contexts, serve_refreshes
from chatsession.integrations.telegram_ext._ids import bot_id_of
from chatsession.integrations.telegram_ext._methods import methods_of_bot
from chatsession.integrations.telegram_ext._persistence import MONTH, SessionPersistence
from chatsession.integrations.telegram_ext._persistent import PersistentApplication
from chatsession.integrations.telegram_ext._polling import ConfirmingUpdater
from chatsession.integrations.telegram_ext._scope import Served
from chatsession.integrations.update_scope import SessionBinding, SessionBindings
from chatsession.manager import SessionManager
from chatsession.storages import Storage

T = TypeVar("T")


def setup_sessions(
    application: Application[Any, Any, Any, Any, Any, Any],
    sessions: SessionManager[T],
    *,
    lazy: bool = False,
    per_bot: bool = False,
) -> None:
    """Give the handlers of an application their sessions.

    Handlers use `context.session` (or the `name` of the manager), jobs and error handlers too. For the type checker
    to know its type, let a class inherit from `SessionCallbackContext[…]` and give it to the builder; without that,
    it works, untyped. Handlers may be added before or after.

    An update is one unit of work, over all groups of handlers: its session is locked and loaded when the first
    handler that uses it is about to run, and committed after the last one. An update that no such handler takes costs
    nothing and waits for nobody. Which handlers use it, their source tells: those that mention `context.session`, or
    hand the context on to something that does, or that cannot be told. With `lazy=True`, only `await context.session`
    locks and reads.

    - A handler that fails takes with it what was changed before it in this update. Handlers of later groups, which
      python-telegram-bot then still calls, begin afresh with what is stored. `ApplicationHandlerStop` commits.
    - Handlers with `block=False`, and what `application.create_task(…, update=update)` runs, belong to their update:
      the session stays theirs until the last one is done. Any of them that fails, fails the update.
    - An error handler gets sessions of its own, once it calls `await context.load_session()`.
    - A job gets the session of its `chat_id` and `user_id`; a conversation's time-out that of its last update.

    Build the application with `concurrent_updates(True)`, or a chat that waits for a long handler holds all others
    up: updates of one chat still run one after the other. `await context.release_session()` lets a chat go on.

    The storage is opened by `application.initialize()`, and closed by `application.shutdown()`, once the handlers
    that still run are done. python-telegram-bot's own persistence can be used beside it.

    The sessions of several managers are locked in the order in which they were set up.

    Args:
        application: as it was built.
        sessions: the manager. Several, with different `name`s, can be set up side by side.
        lazy: read only when it is asked for, by `await context.session`.
        per_bot: put the bot's id before each key, as in `42:-1001234`, where several bots share a storage.

    Raises:
        RuntimeError: this python-telegram-bot is too old.
        ValueError: contexts have something else under the manager's name already, or another manager that was set
            up has the same keys in the same storage.

    Examples:
        >>> from telegram import Update
        >>> from telegram.ext import Application, CommandHandler, ContextTypes
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.telegram_ext import SessionCallbackContext, setup_sessions
        >>> class Context(SessionCallbackContext[dict[str, int]]): ...
        >>> async def on_reset(update: Update, context: Context) -> None:
        ...     context.session = None
        >>> builder = Application.builder().token("42:abc").context_types(ContextTypes(context=Context))
        >>> application = builder.concurrent_updates(True).build()
        >>> setup_sessions(application, SessionManager(dict[str, int], storage="memory:"))
        >>> application.add_handler(CommandHandler("reset", on_reset))
    """
    _check(application, "setup_sessions")
    served = _served_by(application)
    binding = SessionBinding(sessions, lazy=lazy, per_bot=per_bot)
    served.bindings.check(binding)
    serve_contexts(application, binding)
    served.bindings.add(binding)
    _serve(application, served)


def setup_persistence(
    application: Application[Any, Any, Any, Any, Any, Any],
    storage: Storage | str,
    *,
    per_bot: bool = False,
    store_data: PersistenceInput | None = None,
    user_data: Any = None,
    chat_data: Any = None,
    bot_data: Any = None,
    callback_data: Any = None,
    callback_data_ttl: float | timedelta | None = MONTH,
    persistence_class: type[SessionPersistence] = SessionPersistence,
    **options: Unpack[StateOptions],
) -> None:
    """Keep `user_data`, `chat_data`, `bot_data`, conversations and `callback_data` in a storage, update by update.

    It takes the place of `ApplicationBuilder.persistence(…)`, and nothing else of the bot changes. Call it directly
    after `build()`, before persistent conversations are added.

    An update locks and loads the data of its chat and its user, and stores what changed before it is done; then the
    data leaves the memory. Data and conversation states are stored together or not at all, and with them the sessions
    that `setup_sessions` was called for. Several processes may share the storage.

    - What a failing handler changed is undone, its conversation's state included.
    - Only JSON is stored: what cannot be is refused with its path, and nothing of the update is stored.
    - `bot_data` is one record, locked while a handler runs whose code uses it.
    - Data of others, and outside of updates: `open_persistence`.

    Args:
        application: as it was built.
        storage: a `Storage`, or a URL for `open_storage`.
        per_bot: put the bot's id before each key, where several bots share a storage.
        store_data: what is stored; the rest stays in memory, as python-telegram-bot has it. Without it, all is.
        user_data: what stored `user_data` must fit, where the class that `ContextTypes` name does not tell it: a
            `TypedDict`, or a dict of other keys such as `dict[int, str]`.
        chat_data: the same of `chat_data`.
        bot_data: the same of `bot_data`.
        callback_data: what the data of a button must fit; without it, any JSON.
        callback_data_ttl: seconds (or a `timedelta`) after which a keyboard that was sent is forgotten; `None`: never.
        persistence_class: a subclass of `SessionPersistence` with `refresh_…` methods of yours.
        **options: see `StateOptions`; `prefix` is `"ptb:"` unless another is given.

    Raises:
        RuntimeError: the application was initialized already, or this python-telegram-bot is too old.
        TypeError: data of these classes cannot be stored.
        ValueError: the application has a persistence already.
        StorageError: the storage's URL is wrong.

    Examples:
        >>> from telegram.ext import Application
        >>> from chatsession.integrations.telegram_ext import setup_persistence
        >>> application = Application.builder().token("42:abc").concurrent_updates(True).build()
        >>> setup_persistence(application, "sqlite:///bot.db")
    """
    _check(application, "setup_persistence")
    if isinstance(application.persistence, SessionPersistence):
        raise ValueError("setup_persistence was called for this application already; call it once")
    if application.persistence is not None:
        raise ValueError(
            f"the application has a {type(application.persistence).__name__} already; take .persistence(…) out of "
            "its builder (chatsession.importers.ptb_persistence brings its data along)"
        )
    if application._initialized:  # `running` is set later
        raise RuntimeError(
            "setup_persistence came after Application.initialize(), so that updates may have been handled without "
            "their data; call it directly after build()"
        )
    if not (isinstance(persistence_class, type) and issubclass(persistence_class, SessionPersistence)):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass others
        raise TypeError(f"persistence_class takes a subclass of SessionPersistence, not {persistence_class!r}")
    persistence = persistence_class(
        storage,
        context_types=application.context_types,
        per_bot=per_bot,
        store_data=store_data,
        types={"user_data": user_data, "chat_data": chat_data, "bot_data": bot_data, "callback_data": callback_data},
        callback_data_ttl=callback_data_ttl,
        **options,
    )
    serve_refreshes(application)
    _serve(application, _served_by(application)._replace(persistence=persistence))
    cast("PersistentApplication", application).keep_data()


def _check(application: object, caller: str) -> None:
    if telegram.__version_info__ < (22,):
        raise RuntimeError(
            f"chatsession needs python-telegram-bot 22 or newer, and this is {telegram.__version__}: "
            "pip install -U 'chatsession[telegram-ext]'"
        )
    if not isinstance(application, Application):  # people pass builders
        raise TypeError(f"{caller} needs the Application, not a {type(application).__name__}; build it before")


def setup_polling(
    application: Application[Any, Any, Any, Any, Any, Any], *, max_deliveries: int = 5, drain_timeout: float = 30.0
) -> None:
    """Let an application confirm each update to Telegram when it is done; then start it as always.

    python-telegram-bot confirms an update when it has fetched it, so that a crash loses what was being handled. Here
    an update is confirmed when its handlers have returned or failed (those with `block=False` too), its sessions are
    committed, and what was handed to `after_commit` is sent. After a crash, Telegram delivers again what was not done;
    sessions with `deduplicate=100` know what they have committed. At most 100 updates, or as many as the smallest
    `deduplicate`, are under way.

    An update whose session could not be locked, stored or answered for (`SessionConflictError`,
    `SessionLockTimeoutError`, `SessionUnsentError`, `StorageUnavailableError`) is handled again after a pause. When
    the application stops, nothing more is fetched, what runs is awaited, and what is done is confirmed.

    `application.run_webhook()` and `updater.start_webhook()` answer an update when it is done, too: with 200, or with
    500 if it must be delivered again. `max_deliveries` and `drain_timeout` have no effect there.

    Args:
        application: for which `setup_sessions` or `setup_persistence` was called. Its `updater` is replaced.
        max_deliveries: an update that has taken the process down so often is set aside: logged, confirmed, and shown
            by `chatsession updates`.
        drain_timeout: seconds to wait for what runs at the end; what is not done then is delivered again.

    Raises:
        ValueError: neither of the two was called, or `max_deliveries` is less than 2.

    Examples:
        >>> from telegram.ext import Application
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.telegram_ext import setup_polling, setup_sessions
        >>> application = Application.builder().token("42:abc").concurrent_updates(True).build()
        >>> setup_sessions(application, SessionManager(dict[str, int], storage="memory:", deduplicate=100))
        >>> setup_polling(application)  # and then application.run_polling()
    """
    if not isinstance(application, ServedApplication):
        raise ValueError("setup_polling comes after setup_sessions(application, sessions) or setup_persistence(…)")
    check_max_deliveries(max_deliveries)
    application.updater = ConfirmingUpdater(application, max_deliveries, drain_timeout)


def _served_by(application: Application[Any, Any, Any, Any, Any, Any]) -> Served:
    """What was set up for an application."""
    if isinstance(application, ServedApplication):
        return application.served
    return Served(SessionBindings(), bot_id_of(application.bot), methods_of_bot(application.bot))


def _serve(application: Application[Any, Any, Any, Any, Any, Any], served: Served) -> None:
    """Let an application work with what is set up for it."""
    is_new = not isinstance(application, ServedApplication)
    given = type(application) if is_new else type(application).__bases__[-1]
    base = ServedApplication if served.persistence is None else PersistentApplication
    names = {"__slots__": (), "__module__": given.__module__, "served": served}
    # An instance has no dictionary in Python 3.13, and the set-up comes after the builder.
    made: Any = application
    made.__class__ = type(given.__name__, (base, given), names)
    if is_new:
        handlers = application.error_handlers
        application.error_handlers = {ErrorHandler(made, callback): block for callback, block in handlers.items()}
    made.serve_handlers()

"""Sessions in python-telegram-bot 22: `context.session` in handlers, jobs and error handlers."""

from __future__ import annotations

from typing import Any, TypeVar

try:
    import telegram
    from telegram.ext import Application
except ImportError as error:
    raise ImportError(
        "chatsession.integrations.telegram_ext needs python-telegram-bot 22 or newer: "
        "pip install 'chatsession[telegram-ext]'"
    ) from error

from chatsession.integrations._telegram_ext_application import bindings_of, serve_application
from chatsession.integrations._telegram_ext_context import (
    LazySessionAttribute,
    LazySessionCallbackContext,
    SessionCallbackContext,
    SessionMethods,
    serve_contexts,
)
from chatsession.integrations.update_context import UpdateContext
from chatsession.integrations.update_scope import SessionBinding
from chatsession.manager import SessionManager

__all__ = [
    "LazySessionAttribute",
    "LazySessionCallbackContext",
    "SessionCallbackContext",
    "SessionMethods",
    "UpdateContext",
    "setup_sessions",
]

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
    handler is about to run, and committed after the last one. An update that no handler takes costs nothing. As
    python-telegram-bot does not tell which handlers use the session, it is opened for all of them; where many do
    not, pass `lazy=True`: then only `await context.session` locks and reads.

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
    if telegram.__version_info__ < (22,):
        raise RuntimeError(
            f"chatsession needs python-telegram-bot 22 or newer, and this is {telegram.__version__}: "
            "pip install -U 'chatsession[telegram-ext]'"
        )
    if not isinstance(application, Application):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass builders
        raise TypeError(f"setup_sessions needs the Application, not a {type(application).__name__}; build it before")
    binding = SessionBinding(sessions, lazy=lazy, per_bot=per_bot)
    bindings_of(application).check(binding)
    serve_contexts(application, binding)
    serve_application(application, binding)

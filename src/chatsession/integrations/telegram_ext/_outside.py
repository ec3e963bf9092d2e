"""An application gets the class that works with what was set up for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

from chatsession.integrations.telegram_ext._application import AnyApplication, ErrorHandler, ServedApplication
from chatsession.integrations.telegram_ext._context_scope import ContextScope
from chatsession.integrations.telegram_ext._methods import methods_of_bot
from chatsession.integrations.telegram_ext._persistence import SessionPersistence
from chatsession.integrations.telegram_ext._persistent import PersistentApplication
from chatsession.integrations.telegram_ext._shared_scope import Served, shared_scope
from chatsession.integrations.telegram_ext._views import DataOfUpdate
from chatsession.integrations.update_context import UpdateContext
from chatsession.integrations.update_scope import SessionBinding, SessionBindings


def serve_sessions(application: AnyApplication, binding: SessionBinding[Any]) -> None:
    """Let an application work with the sessions of one more manager."""
    served = served_by(application)
    served.bindings.add(binding)
    _serve(application, served)


def serve_persistence(application: AnyApplication, persistence: SessionPersistence) -> None:
    """Let an application work with data that is loaded with each update."""
    _serve(application, served_by(application)._replace(persistence=persistence))
    persistence.set_bot(application.bot)
    application.persistence = persistence
    for handler in [handler for handlers in application.handlers.values() for handler in handlers]:
        cast("PersistentApplication", application).lock_bot_data_for(handler)
    application.post_init = _in_unit(application.post_init)
    application.post_stop = _in_unit(application.post_stop)
    if persistence.stored.callback_data:
        persistence.keyboards.serve(getattr(application.bot, "callback_data_cache", None))
    if persistence.stored.user_data:
        application.user_data = DataOfUpdate(persistence, "user_data")
    if persistence.stored.chat_data:
        application.chat_data = DataOfUpdate(persistence, "chat_data")


@asynccontextmanager
async def open_persistence(
    application: AnyApplication, *, user_id: int | None = None, chat_id: int | None = None, bot_data: bool = False
) -> AsyncGenerator[None]:
    """Have persisted data in `application.user_data`, `chat_data` and `bot_data`, outside of any update or beside it.

    As an update does, this waits for the data, locks and loads it; it is stored when the block ends, and not if the
    block raises.

    Args:
        application: for which `setup_persistence` was called.
        user_id: whose `application.user_data[user_id]` to load.
        chat_id: whose `application.chat_data[chat_id]` to load.
        bot_data: whether to load `application.bot_data`.

    Raises:
        ValueError: `setup_persistence` was not called for the application.
        SessionError: the update in which this is called has the data already; use it there.

    Examples:
        >>> from telegram.ext import Application
        >>> async def order_paid(application: Application, user_id: int) -> None:
        ...     async with open_persistence(application, user_id=user_id):
        ...         application.user_data[user_id]["paid"] = True
    """
    served = served_by(application)
    if served.persistence is None:
        raise ValueError("open_persistence needs an application for which setup_persistence was called")
    shared = shared_scope.get()
    ctx = UpdateContext(
        chat_id=chat_id,
        user_id=user_id,
        thread_id=None,
        business_connection_id=None,
        bot_id=application.bot.id,
        update=None,
    )
    async with ContextScope(Served(SessionBindings(), served.persistence), lambda: ctx) as inner:
        await inner.load_data(None if shared is None else shared.data)
        if bot_data and inner.data is not None:
            await inner.data.load_bot_data()
        yield


Hook = Callable[[AnyApplication], Coroutine[Any, Any, None]]


def _in_unit(hook: Hook | None) -> Hook | None:
    """Let a hook of the application use `bot_data`, if it does."""
    if hook is None:
        return None

    async def run(application: AnyApplication) -> None:
        persistence = served_by(application).persistence
        assert persistence is not None
        uses = persistence.uses_bot_data(hook, application.context_types.context)
        async with open_persistence(application, bot_data=uses):
            await hook(application)

    return run


def served_by(application: AnyApplication) -> Served:
    """What was set up for an application."""
    if isinstance(application, ServedApplication):
        return application.served
    return Served(SessionBindings(), methods=methods_of_bot(application.bot))


def _serve(application: AnyApplication, served: Served) -> None:
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

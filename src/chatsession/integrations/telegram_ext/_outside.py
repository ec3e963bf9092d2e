"""Persisted data outside of updates, or beside one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager

from chatsession.integrations.telegram_ext._application import AnyApplication
from chatsession.integrations.telegram_ext._context_scope import ContextScope
from chatsession.integrations.telegram_ext._serving import served_by
from chatsession.integrations.telegram_ext._shared_scope import Served, shared_scope
from chatsession.integrations.update_context import UpdateContext
from chatsession.integrations.update_scope import SessionBindings

Hook = Callable[[AnyApplication], Coroutine[object, object, None]]


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


def in_unit(hook: Hook | None) -> Hook | None:
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

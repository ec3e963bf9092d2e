"""For servers of webhooks: answer 200 only when an update is done, and let Telegram deliver it again otherwise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from chatsession.integrations.polling.delivery import Delivery, ThreadDelivery, delivering

T = TypeVar("T")


async def handled(handling: Awaitable[T]) -> T:
    """Await the handling of an update; raises if it is not done, so that Telegram must deliver it again.

    Frameworks tell their error handlers of errors, and then return as if all was well. This raises all the same if
    the session could not be locked or stored, or if what was handed to `after_commit` could not be sent. Let the
    error become an answer of 500, as web frameworks do.

    Args:
        handling: `application.process_update(update)` of python-telegram-bot, `bot.process_new_updates([update])` of
            pyTelegramBotAPI, or `dispatcher.feed_update(bot, update)` of aiogram.

    Returns:
        What the framework returns.

    Raises:
        SessionConflictError: nothing of the update is stored.
        SessionLockTimeoutError: nothing of the update is stored.
        StorageUnavailableError: nothing of the update is stored.
        SessionUnsentError: the update is stored; what it sends is stored, too, and not sent yet.

    Examples:
        >>> from telegram import Update
        >>> async def hook(request):
        ...     await handled(application.process_update(Update.de_json(await request.json(), application.bot)))
        ...     return Response()
    """
    done = asyncio.Event()
    delivery = Delivery(lambda _: done.set())
    token = delivering.set(delivery)
    try:
        result = await handling
    finally:
        delivering.reset(token)
    delivery.end()
    await done.wait()
    if delivery.error is not None:
        raise delivery.error
    return result


def handle(process: Callable[..., object], *args: Any) -> None:
    """Let a synchronous bot handle an update, and wait for its threads; `handled` without asyncio.

    Args:
        process: `bot.process_new_updates` of a `TeleBot`.
        *args: for it: `[update]`.

    Raises:
        SessionConflictError: nothing of the update is stored.
        SessionLockTimeoutError: nothing of the update is stored.
        StorageUnavailableError: nothing of the update is stored.
        SessionUnsentError: the update is stored; what it sends is stored, too, and not sent yet.

    Examples:
        >>> from telebot.types import Update
        >>> def hook(request):
        ...     handle(bot.process_new_updates, [Update.de_json(request.get_json())])
        ...     return "", 200
    """
    done = threading.Event()
    delivery = ThreadDelivery(lambda _: done.set())
    token = delivering.set(delivery)
    try:
        process(*args)
    finally:
        delivering.reset(token)
    delivery.end()
    done.wait()
    if delivery.error is not None:
        raise delivery.error

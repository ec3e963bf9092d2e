"""What the tests of python-telegram-bot's integration share: applications that ask no server, and updates for them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

from aiogram_aids import Pizza
from telegram import Update
from telegram.ext import Application, ApplicationBuilder, ContextTypes, MessageHandler, filters
from telegram.request import BaseRequest, RequestData

from chatsession.integrations.telegram_ext import LazySessionCallbackContext, SessionCallbackContext
from chatsession_playground._updates import JsonObject

App: TypeAlias = Application[Any, Any, Any, Any, Any, Any]


class Context(SessionCallbackContext[Pizza]):
    """As a user declares it."""


class LazyContext(LazySessionCallbackContext[Pizza]):
    """As a user declares it."""


Handler: TypeAlias = Callable[[Update, Any], Awaitable[Any]]


class BurntError(Exception):
    """What handlers of these tests raise."""


class NoServer(BaseRequest):
    """A bot's way to Telegram, on which only `getMe` has an answer."""

    async def initialize(self) -> None: ...

    async def shutdown(self) -> None: ...

    @property
    def read_timeout(self) -> float:
        return 1.0

    async def do_request(
        self, url: str, method: str, request_data: RequestData | None = None, *args: Any, **kwargs: Any
    ) -> tuple[int, bytes]:
        assert url.endswith("/getMe")
        me = {"id": 42, "is_bot": True, "first_name": "Bot", "username": "pizza_bot"}
        return 200, json.dumps({"ok": True, "result": me}).encode()


def builder(context: type[Any] | None = Context) -> ApplicationBuilder[Any, Any, Any, Any, Any, Any]:
    made: Any = ApplicationBuilder().token("42:playground").request(NoServer()).get_updates_request(NoServer())
    made = made.updater(None).job_queue(None).concurrent_updates(True)
    return made if context is None else made.context_types(ContextTypes(context=context))


def build(context: type[Any] | None = Context) -> App:
    """An application that runs updates of several chats at the same time, as people should."""
    return builder(context).build()


@asynccontextmanager
async def serving(application: App) -> AsyncIterator[None]:
    """The application at work; at the end, it has stopped as `run_polling` stops it."""
    async with application:
        await application.start()
        try:
            yield
        finally:
            await application.stop()


async def feed(application: App, *updates: JsonObject) -> None:
    """Let updates in, one after the other, by the way that polling and webhooks take."""
    for update in updates:
        await application.update_queue.put(Update.de_json(update, application.bot))
        await application.update_queue.join()


async def process(application: App, update: JsonObject) -> None:
    """Let an update in as people do who have a webhook of their own."""
    await application.process_update(Update.de_json(update, application.bot))


def on_text(application: App, handler: Handler, text: str | None = None, *, group: int = 0, block: bool = True) -> None:
    """Add a handler of messages."""
    which = filters.ALL if text is None else filters.Text([text])
    application.add_handler(MessageHandler(which, handler, block=block), group)


async def count_up(update: Update, context: Context) -> None:
    """Counts, and fails at the word `burn`."""
    context.session.count += 1
    if update.effective_message is not None and update.effective_message.text == "burn":
        raise BurntError


@contextmanager
def refused(kind: type[Exception], words: str = "") -> Iterator[None]:
    """As `pytest.raises`, but for handlers: fails by an error of which error handlers are told."""
    raised: Exception | None = None
    try:
        yield
    except kind as error:
        raised = error
    assert raised is not None, f"no {kind.__name__} was raised"
    assert words in str(raised)


def errors_of(application: App) -> list[Exception | None]:
    """What the error handlers get to see."""
    errors: list[Exception | None] = []

    async def note(update: object, context: Any) -> None:
        errors.append(context.error)

    application.add_error_handler(note)
    return errors

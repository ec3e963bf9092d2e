"""Updates posted to a bot's own web server, by aiogram's request handler and by one that fails on purpose."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiogram import Bot, Dispatcher
from aiogram.exceptions import TelegramBadRequest, TelegramConflictError
from aiogram.methods import SendMessage
from aiogram.types import Message
from aiogram.webhook.aiohttp_server import SimpleRequestHandler
from aiohttp import web
from aiohttp.test_utils import TestServer

from chatsession_playground.bot_api import BotApiServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts web servers of bots; gives the URL of each."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler) -> str:
            app = web.Application()
            app.router.add_post("/hook", handler)
            server = await stack.enter_async_context(TestServer(app))
            return str(server.make_url("/hook"))

        yield start


def echo() -> Dispatcher:
    dispatcher = Dispatcher()

    @dispatcher.message()
    async def answer(message: Message) -> SendMessage:
        return message.answer(f"{message.text}!")

    return dispatcher


@pytest.mark.parametrize("in_background", [True, False])
async def test_aiogram_answers_over_a_webhook(api: BotApiServer, bot: Bot, serve: Serve, in_background: bool) -> None:
    """In the foreground, aiogram's answer to the update itself holds the call of the method."""
    handler = SimpleRequestHandler(echo(), bot, handle_in_background=in_background, secret_token="s3cret")
    await bot.set_webhook(await serve(handler.handle), secret_token="s3cret")

    ann, ben = api.private_chat(1), api.private_chat(2)
    ann.send("one")
    ben.send("two")
    assert (await ann.receive()).text == "one!"
    assert (await ben.receive()).text == "two!"
    await api.idle()
    assert api.pending == []


async def test_updates_are_repeated_in_order_until_the_bot_takes_them(
    api: BotApiServer, bot: Bot, serve: Serve
) -> None:
    seen: list[str] = []

    async def fail_twice(request: web.Request) -> web.Response:
        text = (await request.json())["message"]["text"]
        seen.append(text)
        if len(seen) == 2:
            raise web.HTTPInternalServerError
        if len(seen) == 3:
            assert request.transport is not None
            request.transport.abort()
        if len(seen) == 5:
            await bot.send_message(1, "done")
        return web.Response(text="ok")

    ann = api.private_chat(1)
    for text in "abc":
        ann.send(text)
    await bot.set_webhook(await serve(fail_twice))
    await ann.receive()
    assert seen == ["a", "b", "b", "b", "c"]
    info = await bot.get_webhook_info()
    assert info.last_error_message


async def test_one_chat_does_not_hold_up_another(api: BotApiServer, bot: Bot, serve: Serve) -> None:
    async def never_take_ann(request: web.Request) -> web.Response:
        if (await request.json())["message"]["chat"]["id"] == 1:
            raise web.HTTPServiceUnavailable
        return web.json_response({"method": "sendMessage", "chat_id": 2, "text": "hello Ben"})

    await bot.set_webhook(await serve(never_take_ann))
    hopeless = api.private_chat(1).send("hello?")
    ben = api.private_chat(2)
    ben.send("hello")
    assert (await ben.receive()).text == "hello Ben"

    await bot.delete_webhook()
    assert [update.update_id for update in await bot.get_updates()] == [hopeless.id]


async def test_a_webhook_and_polling_exclude_each_other(api: BotApiServer, bot: Bot) -> None:
    await bot.set_webhook("http://127.0.0.1:9/hook", allowed_updates=["message"], max_connections=3)
    info = await bot.get_webhook_info()
    assert (info.url, info.max_connections, info.allowed_updates) == (
        "http://127.0.0.1:9/hook",
        3,
        ["message"],
    )
    with pytest.raises(TelegramConflictError, match="can't use getUpdates method while webhook is active"):
        await bot.get_updates()

    api.private_chat(1).send("dropped")
    await bot.delete_webhook(drop_pending_updates=True)
    assert await bot.get_updates() == []
    assert (await bot.get_webhook_info()).url == ""


async def test_a_webhook_must_be_a_url(bot: Bot) -> None:
    with pytest.raises(TelegramBadRequest, match="bad webhook"):
        await bot.set_webhook("ftp://127.0.0.1/hook")

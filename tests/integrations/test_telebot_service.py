"""telebot's bots in service: real polling and webhooks over the loopback Bot API, stopped and started again."""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiogram_aids import Pizza, message
from aiohttp import web
from aiohttp.test_utils import TestServer
from telebot import asyncio_helper
from telebot.async_telebot import AsyncTeleBot
from telebot.types import Message
from telebot_aids import make_bot, parsed

from chatsession import MemoryStorage, SessionClosedError, SessionManager, StorageError
from chatsession.integrations.telebot import SessionContext, setup_sessions
from chatsession_playground.bot_api import BotApiServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "pizza_bot_telebot.py"


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BotApiServer]:
    ask = asyncio_helper._process_request

    async def post(token: str, url: str, method: str = "post", **kwargs: Any) -> Any:
        return await ask(token, url, method="post", **kwargs)  # the server overlooks the body of a GET

    monkeypatch.setattr(asyncio_helper, "_process_request", post)
    monkeypatch.setattr(asyncio_helper, "session_manager", asyncio_helper.SessionManager())
    async with BotApiServer() as server:
        monkeypatch.setattr(asyncio_helper, "API_URL", server.url + "/bot{0}/{1}")
        yield server


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bot.db"


@asynccontextmanager
async def polling(api: BotApiServer, bot: AsyncTeleBot) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(bot.polling())
    await api.idle()
    try:
        yield task
    finally:
        if not task.cancelling():
            task.cancel()
        await task


def counting_bot(api: BotApiServer, storage: Any) -> tuple[AsyncTeleBot, SessionManager[Pizza]]:
    """A bot that counts, and answers with the count."""
    bot, sessions = AsyncTeleBot(api.token), SessionManager(Pizza, storage=storage)
    setup_sessions(bot, sessions)

    @bot.message_handler()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1
        await bot.send_message(message.chat.id, str(session.count))

    return bot, sessions


async def test_polling_and_a_restart(api: BotApiServer, sqlite: str) -> None:
    ann = api.private_chat(1)
    for expected in ("1", "2"), ("3", "4"):
        bot, sessions = counting_bot(api, sqlite)
        async with polling(api, bot):
            assert sessions.storage.is_open
            for text in expected:
                ann.send("🍕")
                assert (await ann.receive()).text == text
        assert not sessions.storage.is_open


async def test_the_same_bot_polls_again(api: BotApiServer, sqlite: str) -> None:
    bot, _ = counting_bot(api, sqlite)
    ann = api.private_chat(1)
    for text in "12":
        async with polling(api, bot):
            ann.send("🍕")
            assert (await ann.receive()).text == text


async def test_the_example(api: BotApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOT_TOKEN", api.token)
    monkeypatch.chdir(tmp_path)
    bot: AsyncTeleBot = runpy.run_path(str(EXAMPLE))["bot"]
    ann = api.private_chat(1)
    async with polling(api, bot):
        for text, answer in (
            ("🍕", "Pizza number 1 for this chat!"),
            ("🍕", "Pizza number 2 for this chat!"),
            ("/reset", "Forgotten."),
            ("🍕", "Pizza number 1 for this chat!"),
        ):
            ann.send(text)
            assert (await ann.receive()).text == answer


async def test_stopped_in_the_middle_of_handlers_that_still_answer(api: BotApiServer, sqlite: str) -> None:
    """All that the bot has got is handled, also what waits for its chat, or was only just received."""
    bot, sessions = AsyncTeleBot(api.token), SessionManager(Pizza, storage=sqlite)
    setup_sessions(bot, sessions)
    busy, go_on = asyncio.Event(), asyncio.Event()

    @bot.message_handler()
    async def slow(message: Message, session: Pizza) -> None:
        busy.set()
        await go_on.wait()
        session.count += 1
        await bot.send_message(message.chat.id, str(session.count))

    ann = api.private_chat(1)
    async with asyncio.timeout(120):
        async with polling(api, bot) as task:
            for _ in range(3):
                ann.send("🍕")
            await busy.wait()
            task.cancel()
            just_received = asyncio.create_task(bot.process_new_updates([parsed(message("last"))]))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not task.done()
            go_on.set()
        assert [(await ann.receive()).text for _ in range(4)] == ["1", "2", "3", "4"]
        await just_received
    async with sessions:
        assert await sessions.get(1) == Pizza(4)


async def test_a_handler_without_a_session_does_not_hold_the_end_up(api: BotApiServer, sqlite: str) -> None:
    bot, _ = counting_bot(api, sqlite)
    begun = asyncio.Event()

    @bot.message_handler(content_types=["text", "photo"], func=lambda message: message.text == "remind me")
    async def remind(message: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    bot.message_handlers.reverse()
    async with asyncio.timeout(120):
        async with polling(api, bot) as task:
            api.private_chat(1).send("remind me")
            await begun.wait()
            task.cancel()
            await task
    for left in asyncio.all_tasks() - {asyncio.current_task()}:
        left.cancel()


async def test_a_webhooks_server_stops(api: BotApiServer, sqlite: str) -> None:
    bot, sessions = counting_bot(api, sqlite)

    async def hook(request: web.Request) -> web.Response:
        await bot.process_new_updates([parsed(await request.json())])
        return web.Response()

    async def closing(_: object) -> None:
        await bot.close_session()

    app = web.Application()
    app.router.add_post("/hook", hook)
    app.on_cleanup.append(closing)
    ann = api.private_chat(1)
    async with TestServer(app) as server:
        await bot.set_webhook(str(server.make_url("/hook")))
        for text in "123":
            ann.send("🍕")
            assert (await ann.receive()).text == text
    with pytest.raises(SessionClosedError, match="its manager is closed"):
        await sessions.get(1)
    async with sessions:
        assert await sessions.get(1) == Pizza(3)


async def test_a_storage_that_cannot_be_opened_ends_the_start(api: BotApiServer, tmp_path: Path) -> None:
    (tmp_path / "bot.db").write_bytes(b"this is no database, and never was one" * 100)
    bot, _ = counting_bot(api, f"sqlite:///{tmp_path}/bot.db")
    with pytest.raises(StorageError):
        await bot.polling()


async def test_a_batch_of_many_chats_is_handled_at_once_and_in_order() -> None:
    bot, sessions = make_bot(), SessionManager(Pizza, storage=MemoryStorage())
    setup_sessions(bot, sessions)
    everybody = asyncio.Barrier(50)

    @bot.message_handler()
    async def on_photo(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        if not session.count:
            await everybody.wait()
        session.count += 1
        session.toppings.append(message.text or "")

    chats = [{"id": n, "type": "private", "first_name": "Ann"} for n in range(1, 51)]
    batch = [parsed(message(str(n), chat=chat)) for n in range(5) for chat in chats]
    async with asyncio.timeout(120):
        await bot.process_new_updates(batch)
    assert [pizza async for _, pizza in sessions.entries()] == [Pizza(5, ["0", "1", "2", "3", "4"])] * 50

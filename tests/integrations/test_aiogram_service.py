"""Bots in service: real long polling and webhooks, many updates at once, stopped and started again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiogram import Bot, Dispatcher
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.methods import SendMessage
from aiogram.types import Message
from aiogram.webhook.aiohttp_server import SimpleRequestHandler, setup_application
from aiogram_aids import ANN, BOT, CountingStorage, Pizza, group, message
from aiohttp import web
from aiohttp.test_utils import TestServer
from waiting_aids import until

from chatsession import (
    MemoryStorage,
    SessionClosedError,
    SessionManager,
    StorageAdapter,
    StorageError,
    StorageUnavailableError,
)
from chatsession.integrations.aiogram import SessionContext, setup_sessions
from chatsession_playground.bot_api import BotApiServer


class PlainSession(AiohttpSession):
    """Leaves out the quarter of a second that aiogram waits on closing for the end of TLS, of which there is none."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


@pytest.fixture
async def api() -> AsyncIterator[BotApiServer]:
    async with BotApiServer() as server:
        yield server


@pytest.fixture
async def bot(api: BotApiServer) -> AsyncIterator[Bot]:
    async with Bot(api.token, session=PlainSession(api=TelegramAPIServer.from_base(api.url))) as bot:
        yield bot


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bot.db"


@asynccontextmanager
async def polling(api: BotApiServer, dp: Dispatcher, bot: Bot, **options: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(dp.start_polling(bot, handle_signals=False, close_bot_session=False, **options))
    await api.idle()
    try:
        yield
    finally:
        await dp.stop_polling()
        await task


def counting_bot(storage: Any) -> tuple[Dispatcher, SessionManager[Pizza]]:
    """A bot that counts, and answers with the count."""
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=storage)
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> SendMessage:
        session.count += 1
        return message.answer(str(session.count))

    return dp, sessions


@pytest.mark.parametrize("handle_as_tasks", [True, False])
async def test_polling(api: BotApiServer, bot: Bot, sqlite: str, handle_as_tasks: bool) -> None:
    ann, ben = api.private_chat(1), api.private_chat(2)
    for expected in ("1", "2"), ("3", "4"):
        dp, sessions = counting_bot(sqlite)  # the second one is the bot after a restart
        async with polling(api, dp, bot, handle_as_tasks=handle_as_tasks):
            for text in expected:
                ann.send("🍕")
                assert (await ann.receive()).text == text
            ben.send("🍕")
            await ben.receive()
        async with sessions:
            assert {key: pizza.count async for key, pizza in sessions.entries()} == {
                "1": int(expected[-1]),
                "2": int(expected[-1]) // 2,
            }


@pytest.mark.parametrize("handle_in_background", [True, False])
async def test_webhooks(api: BotApiServer, bot: Bot, sqlite: str, handle_in_background: bool) -> None:
    dp, sessions = counting_bot(sqlite)
    app = web.Application()
    SimpleRequestHandler(dp, bot, handle_in_background=handle_in_background).register(app, "/hook")
    setup_application(app, dp)
    ann, ben = api.private_chat(1), api.private_chat(2)

    async with TestServer(app) as server:
        await bot.set_webhook(str(server.make_url("/hook")))
        for _ in range(3):
            ann.send("🍕")
        ben.send("🍕")
        assert {(await ann.receive()).text for _ in range(3)} == {"1", "2", "3"}
        assert (await ben.receive()).text == "1"
    with pytest.raises(SessionClosedError, match="its manager is closed"):
        await sessions.get(1)
    async with sessions:
        assert await sessions.get(1) == Pizza(3)


async def test_a_webhook_handler_in_the_background_is_awaited_at_shutdown(
    api: BotApiServer, bot: Bot, sqlite: str
) -> None:
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=sqlite)
    setup_sessions(dp, sessions)
    busy, go_on = asyncio.Event(), asyncio.Event()

    @dp.message()
    async def slow(message: Message, session: Pizza) -> None:
        busy.set()
        await go_on.wait()
        session.count += 1

    app = web.Application()
    SimpleRequestHandler(dp, bot).register(app, "/hook")
    setup_application(app, dp)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(TestServer(app))
        await bot.set_webhook(str(server.make_url("/hook")))
        api.private_chat(1).send("🍕")
        await busy.wait()
        closing = asyncio.create_task(stack.aclose())
        await until(lambda: sessions.runtime._closed)
        go_on.set()
        await closing
    async with sessions:
        assert await sessions.get(1) == Pizza(1)


async def test_stopped_in_the_middle_of_a_handler_and_started_again(api: BotApiServer, bot: Bot, sqlite: str) -> None:
    """The handlers end and are stored before the storage closes; also those that wait for their chat."""
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=sqlite)
    setup_sessions(dp, sessions)
    busy, go_on = asyncio.Event(), asyncio.Event()

    @dp.message()
    async def slow(message: Message, session: Pizza) -> None:
        busy.set()
        await go_on.wait()
        session.count += 1
        await message.answer(str(session.count))

    ann = api.private_chat(1)
    start = lambda: asyncio.create_task(dp.start_polling(bot, handle_signals=False, close_bot_session=False))  # noqa: E731
    service = start()
    for _ in range(3):
        ann.send("🍕")
    await busy.wait()
    await api.idle()
    stopping = asyncio.create_task(dp.stop_polling())
    await until(lambda: sessions.runtime._closed)
    assert sessions.storage.is_open
    go_on.set()
    await asyncio.gather(stopping, service)
    assert not sessions.storage.is_open
    assert [(await ann.receive()).text for _ in range(3)] == ["1", "2", "3"]

    service = start()
    ann.send("🍕")
    assert (await ann.receive()).text == "4"
    await dp.stop_polling()
    await service


async def test_the_storage_is_open_while_the_dispatcher_runs(api: BotApiServer, bot: Bot, sqlite: str) -> None:
    dp, sessions = counting_bot(sqlite)
    async with polling(api, dp, bot):
        assert sessions.storage.is_open
    assert not sessions.storage.is_open


async def test_a_storage_that_cannot_be_opened_ends_the_start(bot: Bot, tmp_path: Path) -> None:
    (tmp_path / "bot.db").write_bytes(b"this is no database, and never was one" * 100)
    dp, _ = counting_bot(f"sqlite:///{tmp_path}/bot.db")
    with pytest.raises(StorageError):
        await dp.start_polling(bot, handle_signals=False, close_bot_session=False)


@pytest.mark.parametrize("where", ["memory", "locks", "sqlite", "adapter"])
async def test_a_burst_of_200_updates_is_exact_and_in_order(where: str, sqlite: str) -> None:
    storages = {"memory": MemoryStorage, "locks": CountingStorage, "sqlite": lambda: sqlite, "adapter": Shelf}
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=storages[where]())
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_photo(message: Message, session: Pizza) -> None:
        count = session.count
        await asyncio.sleep(0)
        session.count = count + 1
        session.toppings.append(message.text or "")

    await asyncio.gather(*[dp.feed_raw_update(BOT, message(str(n), chat=group())) for n in range(200)])
    assert await sessions.get(-100) == Pizza(200, [str(n) for n in range(200)])
    await sessions.aclose()
    assert len(sessions.runtime.coordinator.queue) == len(sessions.runtime.coordinator.leases) == 0


class Shelf(StorageAdapter[Pizza]):
    """A storage of the user's own."""

    def __init__(self) -> None:
        self.values: dict[str, Pizza] = {}

    def read(self, key: str, /) -> Pizza | None:
        return self.values.get(key)

    async def write(self, key: str, value: Pizza, /) -> None:
        await asyncio.sleep(0)
        self.values[key] = value

    def delete(self, key: str, /) -> None:
        self.values.pop(key, None)


async def test_an_album_of_ten_photos_over_real_polling(api: BotApiServer, bot: Bot, sqlite: str) -> None:
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=sqlite)
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_photo(message: Message, session: Pizza) -> None:
        session.toppings.append(message.text or "")
        await message.answer("got it")

    ann = api.private_chat(1)
    for n in range(10):
        ann.send(f"photo {n}")
    async with polling(api, dp, bot):
        for _ in range(10):
            await ann.receive()
    async with sessions:
        assert await sessions.get(1) == Pizza(0, [f"photo {n}" for n in range(10)])


async def test_a_thousand_chats_run_in_parallel(sqlite: str) -> None:
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=sqlite)
    setup_sessions(dp, sessions)
    everybody = asyncio.Barrier(1000)

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        await everybody.wait()
        session.count += message.chat.id

    async with asyncio.timeout(120):
        await asyncio.gather(*[dp.feed_raw_update(BOT, message(chat=group(-n))) for n in range(1, 1001)])
    assert {key: pizza.count async for key, pizza in sessions.entries()} == {str(-n): -n for n in range(1, 1001)}
    await sessions.aclose()
    assert len(sessions.runtime.coordinator.queue) == len(sessions.runtime.coordinator.leases) == 0


async def test_a_busy_chat_does_not_hold_the_others_up(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    busy, go_on = asyncio.Event(), asyncio.Event()

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1
        if message.text == "slow":
            busy.set()
            await go_on.wait()

    slow = asyncio.create_task(dp.feed_raw_update(BOT, message("slow", chat=group(-1))))
    await busy.wait()
    await dp.feed_raw_update(BOT, message(chat=group(-2), user=ANN))
    go_on.set()
    await slow
    assert await sessions.get(-1) == await sessions.get(-2) == Pizza(1)


async def test_a_streaming_bot_holds_nobody_up(api: BotApiServer, bot: Bot, sqlite: str) -> None:
    """Rule 15a, over real polling: what comes after `release_session` is stored by `sessions.update`."""
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=sqlite)
    setup_sessions(dp, sessions)
    second = asyncio.Event()

    @dp.message(lambda message: message.text == "tell me")
    async def stream(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        session.count += 1
        await ctx.release_session()
        await second.wait()
        await sessions.update(message.chat.id, lambda pizza: pizza.toppings.append("told"))
        await message.answer("the end")

    @dp.message()
    async def other(message: Message, session: Pizza) -> None:
        session.count += 1
        second.set()

    ann = api.private_chat(1)
    async with polling(api, dp, bot):
        ann.send("tell me")
        ann.send("hm?")
        assert (await ann.receive()).text == "the end"
    async with sessions:
        assert await sessions.get(1) == Pizza(2, ["told"])


class SlowToOpen(MemoryStorage):
    """Takes its time to open, and may fail."""

    broken = False

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0
        self.answer = asyncio.Event()

    async def open(self) -> None:
        self.opened += 1
        await self.answer.wait()
        if self.broken:
            raise StorageUnavailableError("gone")
        await super().open()


async def test_without_a_start_the_first_updates_open_the_storage_once_and_in_order() -> None:
    storage = SlowToOpen()
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=storage)
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_photo(message: Message, session: Pizza) -> None:
        session.toppings.append(message.text or "")

    feeding = [asyncio.create_task(dp.feed_raw_update(BOT, message(str(n)))) for n in range(3)]
    await until(lambda: storage.opened)
    feeding[0].cancel()
    feeding.append(asyncio.create_task(dp.feed_raw_update(BOT, message("3"))))
    storage.answer.set()
    await asyncio.gather(*feeding, return_exceptions=True)
    assert await sessions.get(1) == Pizza(0, ["1", "2", "3"])
    assert storage.opened == 1


async def test_a_storage_that_does_not_open_fails_all_that_wait_and_is_tried_again() -> None:
    storage = SlowToOpen()
    storage.broken = True
    dp, sessions = counting_bot(storage)

    feeding = [asyncio.create_task(dp.feed_raw_update(BOT, message())) for _ in range(3)]
    await until(lambda: storage.opened)
    storage.answer.set()
    errors = await asyncio.gather(*feeding, return_exceptions=True)
    assert [type(error) for error in errors] == [StorageUnavailableError] * 3
    assert storage.opened == 1
    storage.broken = False
    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)

"""Bots in service: real long polling, many updates at once, stopped and started again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiogram_aids import Pizza, group, message
from ptb_aids import App, Context, build, errors_of, on_text, process, serving
from telegram import Update
from telegram.ext import Application, ContextTypes
from waiting_aids import until

from chatsession import SessionManager, StorageError
from chatsession.integrations.telegram_ext import setup_persistence, setup_polling, setup_sessions
from chatsession_playground.bot_api import BotApiServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "pizza_bot_ptb.py"


@pytest.fixture
async def api() -> AsyncIterator[BotApiServer]:
    async with BotApiServer() as server:
        yield server


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bot.db"


@asynccontextmanager
async def polling(api: BotApiServer, application: App) -> AsyncIterator[None]:
    async with serving(application):
        assert application.updater is not None
        await application.updater.start_polling()
        await api.idle()
        try:
            yield
        finally:
            await application.updater.stop()


def counting_bot(api: BotApiServer, storage: str) -> tuple[App, SessionManager[Pizza]]:
    """A bot that counts, and answers with the count."""
    made = Application.builder().token(api.token).base_url(f"{api.url}/bot").concurrent_updates(True)
    application, sessions = (
        made.context_types(ContextTypes(context=Context)).build(),
        SessionManager(Pizza, storage=storage),
    )
    setup_sessions(application, sessions)

    async def on_pizza(update: Update, context: Context) -> None:
        count = context.session.count
        await asyncio.sleep(0)
        context.session.count = count + 1
        assert update.message is not None
        await update.message.reply_text(str(context.session.count))

    on_text(application, on_pizza)
    return application, sessions


async def test_polling(api: BotApiServer, sqlite: str) -> None:
    ann, ben = api.private_chat(1), api.private_chat(2)
    for expected in ("1", "2"), ("3", "4"):
        application, sessions = counting_bot(api, sqlite)  # the second one is the bot after a restart
        async with polling(api, application):
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


async def test_persisted_data_is_stored_before_its_update_is_confirmed(api: BotApiServer, sqlite: str) -> None:
    application = Application.builder().token(api.token).base_url(f"{api.url}/bot").build()
    setup_persistence(application, sqlite, deduplicate=100)
    setup_polling(application)
    busy, go_on = asyncio.Event(), asyncio.Event()

    async def count(update: Update, context: Any) -> None:
        context.user_data["count"] = 1
        busy.set()
        await go_on.wait()

    on_text(application, count)
    async with polling(api, application):
        sent = api.private_chat(1).send("🍕")
        await busy.wait()
        assert [update.id for update in api.pending] == [sent.id]
        go_on.set()
        await until(lambda: not api.pending)
        assert await application.persistence.get_user_data() == {1: {"count": 1}}


async def test_an_album_of_ten_photos(api: BotApiServer, sqlite: str) -> None:
    application, _ = counting_bot(api, sqlite)
    ann = api.private_chat(1)
    for _ in range(10):
        ann.send("🍕")
    async with polling(api, application):
        assert {(await ann.receive()).text for _ in range(10)} == {str(n) for n in range(1, 11)}


async def test_stopped_in_the_middle_of_a_handler_and_started_again(api: BotApiServer, sqlite: str) -> None:
    """The handlers end and are stored before the storage closes; also those that wait for their chat."""
    application, sessions = counting_bot(api, sqlite)
    busy, go_on = asyncio.Event(), asyncio.Event()

    async def slow(update: Update, context: Context) -> None:
        assert context.session is not None
        busy.set()
        await go_on.wait()

    on_text(application, slow, group=-1)
    ann = api.private_chat(1)
    async with polling(api, application):
        for _ in range(3):
            ann.send("🍕")
        await busy.wait()
        await until(lambda: len(sessions.runtime.coordinator.queue._queues.get("1", ())) == 2)
        asyncio.get_running_loop().call_later(0.05, go_on.set)  # while the application stops
    assert not sessions.storage.is_open
    assert [(await ann.receive()).text for _ in range(3)] == ["1", "2", "3"]

    async with polling(api, application):
        ann.send("🍕")
        assert (await ann.receive()).text == "4"


async def test_a_handler_that_does_not_block_is_awaited_at_shutdown(sqlite: str) -> None:
    application, sessions = build(), SessionManager(Pizza, storage=sqlite)
    setup_sessions(application, sessions)
    busy, go_on = asyncio.Event(), asyncio.Event()

    async def slow(update: Update, context: Context) -> None:
        busy.set()
        await go_on.wait()
        context.session.count += 1

    on_text(application, slow, block=False)
    await application.initialize()
    with pytest.warns(UserWarning, match="won't be automatically awaited"):  # they are, by the sessions
        await process(application, message())
    await busy.wait()
    closing = asyncio.create_task(application.shutdown())
    await until(lambda: sessions.runtime._closed)
    assert sessions.storage.is_open
    go_on.set()
    await closing
    async with sessions:
        assert await sessions.get(1) == Pizza(1)


async def test_a_burst_of_200_updates_is_exact_and_in_order(sqlite: str) -> None:
    application, sessions = build(), SessionManager(Pizza, storage=sqlite)
    setup_sessions(application, sessions)

    async def on_photo(update: Update, context: Context) -> None:
        count = context.session.count
        await asyncio.sleep(0)
        context.session.count = count + 1
        assert update.message is not None
        context.session.toppings.append(update.message.text or "")

    on_text(application, on_photo)
    errors = errors_of(application)
    async with serving(application):
        for n in range(200):
            await application.update_queue.put(Update.de_json(message(str(n), chat=group()), application.bot))
        await application.update_queue.join()
        assert await sessions.get(-100) == Pizza(200, [str(n) for n in range(200)])
    assert errors == []
    assert len(sessions.runtime.coordinator.queue) == len(sessions.runtime.coordinator.leases) == 0


async def test_the_storage_is_open_while_the_application_is_initialized(sqlite: str) -> None:
    application, sessions = build(), SessionManager(Pizza, storage=sqlite)
    setup_sessions(application, sessions)
    async with application:
        assert sessions.storage.is_open
    assert not sessions.storage.is_open


async def test_a_storage_that_cannot_be_opened_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "bot.db").write_bytes(b"this is no database, and never was one" * 100)
    application = build()
    setup_sessions(application, SessionManager(Pizza, storage=f"sqlite:///{tmp_path}/bot.db"))
    with pytest.raises(StorageError):
        await application.initialize()
    await application.shutdown()


RUN_AGAINST = """
import runpy, sys
from telegram.ext import ApplicationBuilder
url, script = sys.argv[1:]
build = ApplicationBuilder.build
ApplicationBuilder.build = lambda self: build(self.base_url(f"{url}/bot"))
runpy.run_path(script, run_name="__main__")
"""
"""Runs a bot's script unchanged against another server than Telegram."""


async def test_the_example(api: BotApiServer, tmp_path: Path) -> None:
    ann = api.private_chat(1)
    # run_polling asks for the loop of a thread that has none yet, which Python deprecates from 3.12 on, and calls what
    # it deprecates from 3.14 on.
    strict = ["-W", "error", "-W", "ignore:There is no current event loop:DeprecationWarning"]
    strict += ["-W", "ignore:'asyncio.iscoroutinefunction' is deprecated:DeprecationWarning"]
    command = [sys.executable, *strict, "-c", RUN_AGAINST, api.url, str(EXAMPLE)]
    for conversation in (
        {"🍕": "Pizza number 1 for this chat!", "a 🍕, please": "Pizza number 2 for this chat!"},
        {"🍕": "Pizza number 3 for this chat!", "/reset": "Forgotten.", "🍕🍕": "Pizza number 1 for this chat!"},
    ):
        bot = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=os.environ | {"BOT_TOKEN": api.token})
        try:
            for said, answered in conversation.items():
                ann.send(said)
                assert (await ann.receive(timeout=120)).text == answered
        finally:
            bot.terminate()
            assert await bot.wait() == 0

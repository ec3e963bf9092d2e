"""No update is dropped without a word, and no change is lost without one in asyncio's debug mode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiogram import Dispatcher
from aiogram.types import Message
from aiogram_aids import BOT, Pizza, message
from ptb_aids import Context, build, on_text, process
from telegram import Update
from waiting_aids import until

from chatsession import SessionManager, lazy_session, session
from chatsession.flavors import LazySessionFlavor, SessionFlavor
from chatsession.integrations import aiogram, telegram_ext

WAITED = "an update was cancelled while it waited for session '1'"
CHANGED = "session '1': its value was changed after its update was done"


def waits(sessions: SessionManager[Any]) -> Callable[[], object]:
    return lambda: sessions.runtime.coordinator.queue.has_waiters("1")


async def test_a_cancelled_update_of_aiogram(
    dp: Dispatcher, sessions: SessionManager[Pizza], caplog: pytest.LogCaptureFixture
) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None: ...

    async with sessions.open(1):
        task = asyncio.create_task(dp.feed_raw_update(BOT, message()))
        await until(waits(sessions))
        task.cancel()
        await asyncio.wait([task])
    assert WAITED in caplog.text


async def test_a_cancelled_update_of_python_telegram_bot(
    sessions: SessionManager[Pizza], caplog: pytest.LogCaptureFixture
) -> None:
    async def on_pizza(update: Update, context: Context) -> None:
        context.session.count += 1

    application = build()
    telegram_ext.setup_sessions(application, sessions)
    on_text(application, on_pizza)
    async with application, sessions.open(1):
        task = asyncio.create_task(process(application, message()))
        await until(waits(sessions))
        task.cancel()
        await asyncio.wait([task])
    assert WAITED in caplog.text


async def test_an_update_that_was_handled_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "chatsession")
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage="memory:", deduplicate=5)
    aiogram.setup_sessions(dp, sessions)

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    update = message()
    for _ in range(2):
        await dp.feed_raw_update(BOT, update)
    assert f"update {update['update_id']} was handled before" in caplog.text


class TestChangedAfterwards:
    @pytest.fixture(autouse=True)
    async def debug(self) -> None:
        asyncio.get_running_loop().set_debug(True)

    @pytest.mark.parametrize("changes", [True, False])
    async def test_by_a_task_that_a_handler_left_running(
        self, dp: Dispatcher, sessions: SessionManager[Pizza], caplog: pytest.LogCaptureFixture, changes: bool
    ) -> None:
        go_on = asyncio.Event()
        left: list[asyncio.Task[None]] = []

        @dp.message()
        async def on_pizza(message: Message, session: Pizza) -> None:
            async def later() -> None:
                await go_on.wait()
                session.toppings.extend(["late"] if changes else [])

            session.count += 1
            left.append(asyncio.create_task(later()))

        await dp.feed_raw_update(BOT, message())
        go_on.set()
        await left[0]
        assert (CHANGED in caplog.text) == changes
        assert await sessions.get(1) == Pizza(1)

    async def test_while_the_next_update_of_the_chat_runs(
        self, dp: Dispatcher, sessions: SessionManager[Pizza], caplog: pytest.LogCaptureFixture
    ) -> None:
        """What the next update changes is another object."""
        left: list[asyncio.Task[None]] = []
        go_on = asyncio.Event()

        @dp.message()
        async def on_pizza(message: Message, session: Pizza) -> None:
            async def later() -> None:
                await go_on.wait()

            session.count += 1
            left.append(asyncio.create_task(later()))

        for _ in range(3):
            await dp.feed_raw_update(BOT, message())
        go_on.set()
        await asyncio.wait(left)
        assert CHANGED not in caplog.text
        assert await sessions.get(1) == Pizza(3)

    @pytest.mark.parametrize("lazy", [True, False])
    async def test_in_a_middleware_without_a_framework(self, lazy: bool, caplog: pytest.LogCaptureFixture) -> None:
        class Strict(SessionFlavor[Pizza]):
            chat_id = 1

        class Lazy(LazySessionFlavor[Pizza]):
            chat_id = 1

        left: list[asyncio.Task[None]] = []
        go_on = asyncio.Event()
        ctx: Any = Lazy() if lazy else Strict()

        async def handler() -> None:
            pizza = (await ctx.session) if lazy else ctx.session

            async def later() -> None:
                await go_on.wait()
                pizza.count += 1

            left.append(asyncio.create_task(later()))

        make: Any = lazy_session if lazy else session
        await make(initial=Pizza, storage="memory:")(ctx, handler)
        go_on.set()
        await left[0]
        assert CHANGED in caplog.text


async def test_nothing_is_watched_without_debug_mode(
    dp: Dispatcher, sessions: SessionManager[Pizza], caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.get_running_loop().set_debug(False)
    async with sessions.open(1) as s:
        assert type(s).__name__ == "UnitOfWork"


@pytest.mark.parametrize("assigned", [False, True], ids=["that is read", "that is assigned"])
async def test_a_cancelled_wait_for_a_lazy_session(
    assigned: bool, sessions: SessionManager[Pizza], caplog: pytest.LogCaptureFixture
) -> None:
    class Context(LazySessionFlavor[Pizza]):
        chat_id = 1

    ctx = Context()

    async def handler() -> None:
        if assigned:
            ctx.session = Pizza(7)
        else:
            await ctx.session

    async with sessions.open(1):
        task = asyncio.create_task(sessions.lazy_middleware()(ctx, handler))
        await until(waits(sessions))
        task.cancel()
        await asyncio.wait([task])
    assert "a handler was cancelled while it waited for session '1'" in caplog.text
    assert await sessions.get(1) is None

"""Polling that confirms updates when they are done, beside aiogram's own, which confirms what it has fetched.

Both are given the same bot, with a session in memory, and the same messages, by the playground's Bot API server in the
same process: what the server and aiogram's own connection cost is in both figures.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiogram import Bot, Dispatcher
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.types import Message

from chatsession import SessionManager
from chatsession.integrations.aiogram import setup_sessions, start_polling
from chatsession_playground.bot_api import BotApiServer
from tools.benchmarks._chats import total_of
from tools.benchmarks._group import Goal, Group, versions
from tools.benchmarks._measure import Contender, Running
from tools.benchmarks._pizza import Pizza

AIOGRAM, CHATSESSION = "aiogram's start_polling", "chatsession's start_polling"
_CHATS = 200

Poll = Callable[[Dispatcher, Bot], Coroutine[Any, Any, None]]


async def _by_aiogram(dp: Dispatcher, bot: Bot) -> None:
    polling = asyncio.ensure_future(dp.start_polling(bot, handle_signals=False))  # pyright: ignore[reportUnknownMemberType] # not annotated
    try:
        await asyncio.shield(polling)
    finally:
        await dp.stop_polling()
        await polling


def _by_chatsession(dp: Dispatcher, bot: Bot) -> Coroutine[Any, Any, None]:
    return start_polling(dp, bot, handle_signals=False)


@asynccontextmanager
async def polled(poll: Poll) -> AsyncGenerator[Running]:
    """A bot at work; an update counts when its handler has run."""
    done = asyncio.Semaphore(0)
    dp = Dispatcher(disable_fsm=True)

    async def on_message(message: Message, session: Pizza) -> None:
        session.count += 1
        done.release()

    dp.message.register(on_message)
    async with BotApiServer() as api, SessionManager(Pizza, storage="memory:", deduplicate=100) as sessions:
        setup_sessions(dp, sessions)
        chats = [api.private_chat(user_id=1_000 + number, name="Ann") for number in range(_CHATS)]

        async def run(count: int) -> None:
            for number in range(count):
                chats[number % _CHATS].send("hi")
            for _ in range(count):
                await done.acquire()

        bot = Bot(api.token, session=AiohttpSession(api=TelegramAPIServer.from_base(api.url)))
        polling = asyncio.create_task(poll(dp, bot))
        try:
            yield Running(run, lambda: total_of(sessions))
        finally:
            polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await polling


@contextmanager
def group() -> Generator[Group]:
    yield Group(
        "Polling, a message to each of 200 chats in turn, in one process with the Bot API server",
        [
            Contender(AIOGRAM, lambda: polled(_by_aiogram)),
            Contender(CHATSESSION, lambda: polled(_by_chatsession), "ours"),
        ],
        versions("aiogram"),
        [
            Goal(
                f"time of {CHATSESSION}, against {AIOGRAM}",
                CHATSESSION,
                AIOGRAM,
                at_most=1.05,
                why="an update is asked for again until it is done, and at most 100 are under way",
            )
        ],
        times=3,
    )

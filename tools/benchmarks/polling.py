"""Polling that confirms updates when they are done, beside each framework's own, which confirms what it has fetched.

Both are given the same bot, with a session in memory, and the same messages, by the playground's Bot API server in the
same process: what the server and the framework's own connection cost is in both figures.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from threading import Thread
from typing import Any

import aiogram
import telebot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.types import Message
from telebot import apihelper, asyncio_helper
from telebot.async_telebot import AsyncTeleBot
from telegram import Update
from telegram.ext import ApplicationBuilder, ContextTypes, MessageHandler, filters

from chatsession import SessionManager
from chatsession import sync as blocking
from chatsession.integrations import aiogram as for_aiogram
from chatsession.integrations import telebot as for_telebot
from chatsession.integrations import telegram_ext as for_ptb
from chatsession_playground.bot_api import BotApiServer
from tools.benchmarks._chats import total_of
from tools.benchmarks._group import Goal, Group, versions
from tools.benchmarks._measure import Contender, Running
from tools.benchmarks._pizza import Pizza

_CHATS = 200
_SECONDS_TO_STOP = 30


class PollingBot(ABC):
    """A bot that counts the messages of each chat.

    Args:
        api: the server that it polls.
        handled: is called when a handler has run.
    """

    def __init__(self, api: BotApiServer, handled: Callable[[], object]) -> None:
        self.api = api
        self.handled = handled
        self.sessions = SessionManager(Pizza, storage="memory:", deduplicate=100)

    async def total(self) -> int:
        """How many messages have been counted in all."""
        return await total_of(self.sessions)

    @abstractmethod
    async def poll_by_framework(self) -> None:
        """Poll until this is cancelled, as the framework does it."""

    @abstractmethod
    async def poll_by_chatsession(self) -> None:
        """Poll until this is cancelled, and confirm what is done."""


class Aiogram(PollingBot):
    def __init__(self, api: BotApiServer, handled: Callable[[], object]) -> None:
        super().__init__(api, handled)
        self._bot = aiogram.Bot(api.token, session=AiohttpSession(api=TelegramAPIServer.from_base(api.url)))
        self._dispatcher: Any = aiogram.Dispatcher(disable_fsm=True)
        for_aiogram.setup_sessions(self._dispatcher, self.sessions)

        async def on_message(message: Message, session: Pizza) -> None:
            session.count += 1
            handled()

        self._dispatcher.message.register(on_message)

    async def poll_by_framework(self) -> None:
        polling = asyncio.ensure_future(self._dispatcher.start_polling(self._bot, handle_signals=False))
        try:
            await asyncio.shield(polling)
        finally:
            await self._dispatcher.stop_polling()
            await polling

    async def poll_by_chatsession(self) -> None:
        await for_aiogram.start_polling(self._dispatcher, self._bot, handle_signals=False)


class _PtbContext(for_ptb.SessionCallbackContext[Pizza]): ...


class Ptb(PollingBot):
    def __init__(self, api: BotApiServer, handled: Callable[[], object]) -> None:
        super().__init__(api, handled)
        builder = ApplicationBuilder().token(api.token).base_url(f"{api.url}/bot").concurrent_updates(True)
        self._application: Any = builder.context_types(ContextTypes(context=_PtbContext)).build()
        for_ptb.setup_sessions(self._application, self.sessions)

        async def on_message(update: Update, context: _PtbContext) -> None:
            context.session.count += 1
            handled()

        self._application.add_handler(MessageHandler(filters.ALL, on_message))

    async def poll_by_framework(self) -> None:
        application = self._application
        async with application:
            await application.start()
            await application.updater.start_polling()
            try:
                await asyncio.Event().wait()
            finally:
                await application.updater.stop()
                await application.stop()

    async def poll_by_chatsession(self) -> None:
        for_ptb.setup_polling(self._application)
        await self.poll_by_framework()


class AsyncTelebot(PollingBot):
    def __init__(self, api: BotApiServer, handled: Callable[[], object]) -> None:
        super().__init__(api, handled)
        asyncio_helper.API_URL = api.url + "/bot{0}/{1}"
        self._bot: Any = AsyncTeleBot(api.token)
        for_telebot.setup_sessions(self._bot, self.sessions)

        async def on_message(message: Any, session: Pizza) -> None:
            session.count += 1
            handled()

        self._bot.register_message_handler(on_message)

    async def poll_by_framework(self) -> None:
        await self._bot.polling(non_stop=True)

    async def poll_by_chatsession(self) -> None:
        await for_telebot.start_polling(self._bot, handle_signals=False)


class Telebot(PollingBot):
    """The synchronous one, whose handlers run in threads."""

    def __init__(self, api: BotApiServer, handled: Callable[[], object]) -> None:
        super().__init__(api, handled)
        apihelper.API_URL = api.url + "/bot{0}/{1}"
        loop = asyncio.get_running_loop()
        self._bot: Any = telebot.TeleBot(api.token)
        self._blocking = blocking.SessionManager(Pizza, storage="memory:", deduplicate=100)
        for_telebot.setup_sessions(self._bot, self._blocking)

        def on_message(message: Any, session: Pizza) -> None:
            session.count += 1
            loop.call_soon_threadsafe(handled)

        self._bot.register_message_handler(on_message)

    async def poll_by_framework(self) -> None:
        await self._in_thread(partial(self._bot.polling, non_stop=True, long_polling_timeout=1))

    async def poll_by_chatsession(self) -> None:
        await self._in_thread(partial(for_telebot.start_polling, self._bot, timeout=1, handle_signals=False))

    async def total(self) -> int:
        def count() -> int:
            return sum(pizza.count for _, pizza in self._blocking.entries())

        return await asyncio.to_thread(count)

    async def _in_thread(self, poll: Callable[[], object]) -> None:
        """Poll in a thread that keeps neither the event loop nor the process from ending."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def run() -> None:
            try:
                poll()
            finally:
                loop.call_soon_threadsafe(ended.set)

        Thread(target=run, daemon=True).start()
        try:
            await ended.wait()
        finally:
            self._bot.stop_polling()
            await ended.wait()
            self._bot.worker_pool.close()


BOTS: dict[str, type[PollingBot]] = {
    "aiogram": Aiogram,
    "python-telegram-bot": Ptb,
    "AsyncTeleBot": AsyncTelebot,
    "TeleBot": Telebot,
}


@asynccontextmanager
async def polled(make: type[PollingBot], poll: Callable[[Any], Awaitable[None]]) -> AsyncGenerator[Running]:
    """A bot at work; an update counts when its handler has run."""
    handled, sent = asyncio.Semaphore(0), 0
    async with BotApiServer() as api:
        bot = make(api, handled.release)
        chats = [api.private_chat(user_id=1_000 + number, name="Ann") for number in range(_CHATS)]

        async def run(count: int) -> None:
            nonlocal sent
            sent += count
            for number in range(count):
                chats[number % _CHATS].send("hi")
            for _ in range(count):
                await handled.acquire()

        async def counted() -> int:
            async with asyncio.timeout(60):  # the last handlers have run, and are not committed yet
                while (total := await bot.total()) < sent:  # noqa: ASYNC110 - what is looked at has no event
                    await asyncio.sleep(0.01)
            return total

        polling = asyncio.ensure_future(poll(bot))
        try:
            yield Running(run, counted)
        finally:
            polling.cancel()
            _, polls_still = await asyncio.wait([polling], timeout=_SECONDS_TO_STOP)
            if polls_still:
                raise TimeoutError(f"polling did not end within {_SECONDS_TO_STOP} s")
            with contextlib.suppress(asyncio.CancelledError):
                polling.result()


@contextmanager
def group() -> Generator[Group]:
    contenders: list[Contender] = []
    labels: dict[str, list[str]] = {}
    goals: list[Goal] = []
    for framework, make in BOTS.items():
        own, ours = f"{framework}'s polling", f"chatsession's polling for {framework}"
        contenders += [
            Contender(own, partial(polled, make, make.poll_by_framework)),
            Contender(ours, partial(polled, make, make.poll_by_chatsession), "ours", own),
        ]
        labels |= {own: [framework, "its own"], ours: [framework, "chatsession"]}
        goals.append(
            Goal(
                f"time of {ours}, against its own",
                ours,
                own,
                at_most=1.05,
                why="an update is asked for again until it is done, and at most 100 are under way",
            )
        )
    yield Group(
        "Polling, a message to each of 200 chats in turn, in one process with the Bot API server",
        contenders,
        versions("aiogram", "python-telegram-bot", "pyTelegramBotAPI"),
        goals,
        headings=["framework", "polling"],
        labels=labels,
        times=3,
    )

"""The same bot in every framework that has polling: it counts the messages of a chat, and answers with the count."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiogram import Bot, Dispatcher
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.types import Message
from telebot import TeleBot, apihelper, asyncio_helper
from telebot.async_telebot import AsyncTeleBot
from telegram import Update
from telegram.ext import Application, ContextTypes, MessageHandler, filters

from chatsession import SessionManager
from chatsession.integrations import aiogram, telebot, telegram_ext
from chatsession.storages import Storage
from chatsession.sync import SessionManager as SyncSessionManager
from chatsession_playground.bot_api import BotApiServer

Counts = dict[str, int]


class PtbContext(telegram_ext.SessionCallbackContext[Counts]):
    """As a user declares it."""


class PollingBot(ABC):
    """A bot at work.

    Args:
        api: the server that it polls.
        storage: of its sessions.
        deduplicate: of its sessions.
    """

    def __init__(self, api: BotApiServer, storage: Storage | str, deduplicate: int = 100) -> None:
        self.api = api
        self.options: dict[str, Any] = {"storage": storage, "deduplicate": deduplicate}
        self.seen: list[str] = []
        """The texts of the messages whose handler began."""
        self._opened = threading.Event()
        """Until this is set, the handler of "slow" waits."""
        self.setup()

    @abstractmethod
    def setup(self) -> None:
        """Make the framework's bot, and register its handler."""

    def setup_states(self, deduplicate: int) -> None:
        """Set up what else remembers updates beside sessions."""
        raise NotImplementedError

    @abstractmethod
    async def poll(self, **options: Any) -> None:
        """Poll until `stop`, or until this is cancelled."""

    async def poll_again(self) -> None:
        """Try to poll while `poll` does."""
        await self.poll()

    @abstractmethod
    async def stop(self) -> None:
        """Let polling end as at SIGTERM."""

    async def stop_in_handler(self) -> None:
        """Stop polling as handlers of the framework do it."""
        await self.stop()

    async def close(self) -> None:  # noqa: B027 - most leave nothing
        """Let what polling leaves running end."""

    def open(self) -> None:
        """Let the handler of "slow" go on."""
        self._opened.set()

    @asynccontextmanager
    async def polling(self, **options: Any) -> AsyncGenerator[None]:
        """Poll during the block, and stop as at SIGTERM."""
        polling = asyncio.create_task(self.poll(**options))
        try:
            yield
        finally:
            self.open()
            if not polling.done():
                await self.stop()
            await polling
            await self.close()

    def count(self, text: str, session: Counts, answer: Callable[[str], None]) -> None:
        """What the handler does."""
        session["count"] = session.get("count", 0) + 1
        answer(str(session["count"]))
        if text == "burn":
            raise ZeroDivisionError

    async def begin(self, text: str) -> None:
        """The first step of the handler."""
        self.seen.append(text)
        if text == "stop":
            await self.stop_in_handler()
        if text == "cancel":
            raise asyncio.CancelledError
        while text == "slow" and not self._opened.is_set():  # noqa: ASYNC110 - threads wait for it, too
            await asyncio.sleep(0.005)


class AiogramBot(PollingBot):
    def setup(self) -> None:
        self._dp = Dispatcher()
        aiogram.setup_sessions(self._dp, SessionManager(dict[str, int], **self.options))

        @self._dp.message()
        async def handle(message: Message, session: Counts, ctx: aiogram.SessionContext[Counts]) -> None:
            text = message.text or ""
            await self.begin(text)
            self.count(text, session, lambda answer: ctx.after_commit(message.answer(answer)))

    def setup_states(self, deduplicate: int) -> None:
        aiogram.setup_fsm(self._dp, self.options["storage"], deduplicate=deduplicate)

    async def poll(self, **options: Any) -> None:
        bot = Bot(self.api.token, session=AiohttpSession(api=TelegramAPIServer.from_base(self.api.url)))
        await aiogram.start_polling(self._dp, bot, **options)

    async def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    async def stop_in_handler(self) -> None:
        await self._dp.stop_polling()


class PtbBot(PollingBot):
    def setup(self) -> None:
        builder = Application.builder().token(self.api.token).base_url(f"{self.api.url}/bot")
        self.application: Any = builder.concurrent_updates(True).context_types(ContextTypes(context=PtbContext)).build()
        telegram_ext.setup_sessions(self.application, SessionManager(dict[str, int], **self.options))

        async def handle(update: Update, context: PtbContext) -> None:
            message = update.message
            assert message is not None
            text = message.text or ""
            await self.begin(text)
            self.count(
                text,
                context.session,
                lambda answer: context.after_commit("send_message", message.chat_id, answer),
            )

        self.application.add_handler(MessageHandler(filters.ALL, handle))
        self._stopped = asyncio.Event()

    def setup_states(self, deduplicate: int) -> None:
        telegram_ext.setup_persistence(self.application, self.options["storage"], deduplicate=deduplicate)

    async def poll(self, **options: Any) -> None:
        options.pop("handle_signals", None)
        telegram_ext.setup_polling(self.application, **options)
        async with self.application:
            await self.application.updater.start_polling(timeout=20)
            await self.application.start()
            await self._stopped.wait()
            self._stopped.clear()
            if self.application.updater.running:
                await self.application.updater.stop()
            await self.application.stop()

    async def poll_again(self) -> None:
        await self.application.updater.start_polling()

    async def stop(self) -> None:
        self._stopped.set()

    async def stop_in_handler(self) -> None:
        await self.application.updater.stop()
        self._stopped.set()


class AsyncTelebotBot(PollingBot):
    def setup(self) -> None:
        self._bot = AsyncTeleBot(self.api.token)
        telebot.setup_sessions(self._bot, SessionManager(dict[str, int], **self.options))

        async def handle(message: Any, session: Counts, ctx: telebot.SessionContext[Counts]) -> None:
            await self.begin(message.text)
            self.count(message.text, session, lambda answer: ctx.after_commit("send_message", message.chat.id, answer))

        self._bot.register_message_handler(handle)  # type: ignore[arg-type] # telebot knows handlers of one parameter
        self._bot.register_edited_message_handler(handle)  # type: ignore[arg-type] # likewise

    def setup_states(self, deduplicate: int) -> None:
        telebot.setup_fsm(self._bot, self.options["storage"], deduplicate=deduplicate)

    async def poll(self, **options: Any) -> None:
        asyncio_helper.API_URL = self.api.url + "/bot{0}/{1}"
        await telebot.start_polling(self._bot, **options)

    async def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class TeleBotBot(PollingBot):
    """The synchronous one, whose handlers run in threads."""

    threaded = True

    def setup(self) -> None:
        self._bot = TeleBot(self.api.token, num_threads=4, threaded=self.threaded)
        self.sessions = SyncSessionManager(dict[str, int], **self.options)
        telebot.setup_sessions(self._bot, self.sessions)

        def handle(message: Any, session: Counts, ctx: telebot.SyncSessionContext[Counts]) -> None:
            self.seen.append(message.text)
            if message.text == "stop":
                self._bot.stop_bot()
            if message.text == "slow":
                assert self._opened.wait(60)
            self.count(message.text, session, lambda answer: ctx.after_commit("send_message", message.chat.id, answer))

        self._bot.register_message_handler(handle)  # type: ignore[arg-type] # telebot knows handlers of one parameter
        self._bot.register_edited_message_handler(handle)  # type: ignore[arg-type] # likewise

    async def poll(self, **options: Any) -> None:
        apihelper.API_URL = self.api.url + "/bot{0}/{1}"
        await asyncio.to_thread(telebot.start_polling, self._bot, **options)

    async def close(self) -> None:
        if self.threaded:
            await asyncio.to_thread(self._bot.worker_pool.close)

    async def stop(self) -> None:
        self._bot.stop_polling()


class UnthreadedTeleBotBot(TeleBotBot):
    threaded = False


BOTS: dict[str, type[PollingBot]] = {
    "aiogram": AiogramBot,
    "ptb": PtbBot,
    "async-telebot": AsyncTelebotBot,
    "telebot": TeleBotBot,
    "telebot-unthreaded": UnthreadedTeleBotBot,
}

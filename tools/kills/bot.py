"""A bot that counts the messages of each chat, and answers each after the commit. Run as a process, to be killed."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from chatsession import SessionError, SessionManager, sync
from tools.kills.mutants import break_the_library

POISON = "poison"
"""A message that takes the process down."""


@dataclass
class Tally:
    """What is stored of a chat.

    Attributes:
        count: of its messages.
        runs: by the text of a message, which run of its handler was committed.
    """

    count: int = 0
    runs: dict[str, str] = field(default_factory=dict[str, str])


def count(tally: Tally, text: str) -> str:
    """Count a message; gives the answer, which names this run of the handler."""
    if text == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    tally.count += 1
    tally.runs[text] = secrets.token_hex(4)
    return f"{text} {tally.runs[text]}"


def main() -> None:
    framework, way, storage, api, token, mutant, *rest = sys.argv[1:]
    break_the_library(mutant)
    options = {"max_deliveries": int(rest[0])} if rest else {}
    if framework == "telebot-threads":
        telebot_threads(
            sync.SessionManager(Tally, storage=storage, deduplicate=100, lock_lease=2.0), way, api, token, options
        )
        return
    sessions = SessionManager(Tally, storage=storage, deduplicate=100, lock_lease=2.0)
    asyncio.run(BOTS[framework](sessions, way, api, token, options))


async def aiogram(sessions: SessionManager[Tally], way: str, api: str, token: str, options: dict[str, Any]) -> None:
    from aiogram import Bot, Dispatcher
    from aiogram.client.session.aiohttp import AiohttpSession
    from aiogram.client.telegram import TelegramAPIServer
    from aiogram.types import Message
    from aiogram.webhook.aiohttp_server import SimpleRequestHandler, setup_application
    from aiohttp import web

    from chatsession.integrations.aiogram import SessionContext, setup_sessions, start_polling

    bot = Bot(token, session=AiohttpSession(api=TelegramAPIServer.from_base(api)))
    dp = Dispatcher()
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_message(message: Message, session: Tally, ctx: SessionContext[Tally]) -> None:
        ctx.after_commit(message.answer(count(session, message.text or "")))

    if way == "polling":
        await start_polling(dp, bot, **options)
        return
    app = web.Application()
    SimpleRequestHandler(dp, bot, handle_in_background=False).register(app, "/hook")
    setup_application(app, dp, bot=bot)
    await serve(app, lambda url: bot.set_webhook(url, max_connections=20))


async def ptb(sessions: SessionManager[Tally], way: str, api: str, token: str, options: dict[str, Any]) -> None:
    from telegram import Update
    from telegram.ext import Application, ContextTypes, MessageHandler, filters

    from chatsession.integrations.telegram_ext import SessionCallbackContext, setup_polling, setup_sessions

    class Context(SessionCallbackContext[Tally]): ...

    builder = Application.builder().token(token).base_url(f"{api}/bot").concurrent_updates(True)
    application: Any = builder.context_types(ContextTypes(context=Context)).build()
    setup_sessions(application, sessions)

    async def on_message(update: Update, context: Context) -> None:
        message = update.message
        assert message is not None
        answer = count(context.session, message.text or "")
        context.after_commit("send_message", message.chat_id, answer)

    application.add_handler(MessageHandler(filters.ALL, on_message))
    setup_polling(application, **options)
    if way == "polling":
        async with application:
            await application.updater.start_polling()
            await application.start()
            await asyncio.Event().wait()
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with application:
        await application.updater.start_webhook(
            port=port, url_path="hook", webhook_url=f"http://127.0.0.1:{port}/hook", max_connections=20
        )
        await application.start()
        await asyncio.Event().wait()


async def telebot(sessions: SessionManager[Tally], way: str, api: str, token: str, options: dict[str, Any]) -> None:
    from aiohttp import web
    from telebot import asyncio_helper, types
    from telebot.async_telebot import AsyncTeleBot

    from chatsession.integrations.telebot import SessionContext, setup_sessions, start_polling
    from chatsession.integrations.webhooks import handled

    update_class: Any = types.Update
    asyncio_helper.API_URL = api + "/bot{0}/{1}"
    bot: Any = AsyncTeleBot(token)
    setup_sessions(bot, sessions)

    async def on_message(message: types.Message, session: Tally, ctx: SessionContext[Tally]) -> None:
        ctx.after_commit("send_message", message.chat.id, count(session, message.text or ""))

    bot.register_message_handler(on_message)
    if way == "polling":
        await start_polling(bot, **options)
        return

    async def hook(request: web.Request) -> web.Response:
        await handled(bot.process_new_updates([update_class.de_json(await request.json())]))
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", hook)
    await serve(app, lambda url: bot.set_webhook(url, max_connections=20))


def telebot_threads(
    sessions: sync.SessionManager[Tally], way: str, api: str, token: str, options: dict[str, Any]
) -> None:
    """The synchronous `TeleBot`, behind a threading server where it has a webhook."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from telebot import TeleBot, apihelper, types

    from chatsession.integrations.telebot import SyncSessionContext, setup_sessions, start_polling
    from chatsession.integrations.webhooks import handle

    update_class: Any = types.Update
    apihelper.API_URL = api + "/bot{0}/{1}"
    bot: Any = TeleBot(token, num_threads=16)
    setup_sessions(bot, sessions)

    def on_message(message: types.Message, session: Tally, ctx: SyncSessionContext[Tally]) -> None:
        ctx.after_commit("send_message", message.chat.id, count(session, message.text or ""))

    bot.register_message_handler(on_message)
    if way == "polling":
        start_polling(bot, **options)
        return

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            try:
                handle(bot.process_new_updates, [update_class.de_json(body)])
                status = 200
            except SessionError:
                status = 500
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - its base names it so

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    bot.set_webhook(f"http://127.0.0.1:{server.server_port}/hook", max_connections=20)
    server.serve_forever()


async def serve(app: Any, set_webhook: Callable[[str], Awaitable[object]]) -> None:
    """Let a webhook's server run until the process is killed."""
    from aiohttp import web

    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    await set_webhook(f"http://{host}:{port}/hook")
    await asyncio.Event().wait()


BOTS: dict[str, Any] = {"aiogram": aiogram, "ptb": ptb, "telebot": telebot}
FRAMEWORKS = (*BOTS, "telebot-threads")

if __name__ == "__main__":
    main()

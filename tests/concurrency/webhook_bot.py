"""Processes of a bot of aiogram behind a webhook, to be killed at will: `python webhook_bot.py`.

Each line of the input starts one more, as `Options` in JSON; it prints its process id and the port where it listens.
All are killed when the input ends. They are forked from here, because importing a framework takes long.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable

import msgspec
from aiogram import Bot, Dispatcher
from aiogram.types import Message, Update
from aiogram.webhook.aiohttp_server import SimpleRequestHandler, setup_application
from aiohttp import web
from webhook_sessions import Options, Tally, manager

from chatsession.integrations.aiogram import setup_sessions

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def dispatcher(options: Options) -> Dispatcher:
    """The bot: handlers that take their time between reading and writing."""
    dp = Dispatcher()
    setup_sessions(dp, manager(options))

    @dp.message()
    async def count_up(message: Message, session: Tally, event_update: Update) -> None:
        before = session.count
        await asyncio.sleep(random.uniform(0, 0.02))
        session.count = before + 1
        session.by.append(event_update.update_id)

    return dp


@web.middleware
async def slow_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The session is committed, but Telegram does not know yet: here it hurts to be killed."""
    answer = await handler(request)
    await asyncio.sleep(random.uniform(0, 0.03))
    return answer


async def serve(options: Options) -> None:
    random.seed(os.getpid())
    bot, dp = Bot("42:TEST"), dispatcher(options)
    app = web.Application(middlewares=[slow_answers])
    SimpleRequestHandler(dp, bot, handle_in_background=False).register(app, "/hook")
    setup_application(app, dp, bot=bot)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(os.getpid(), runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().create_future()


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    children: list[int] = []
    for line in sys.stdin:
        if pid := os.fork():
            children.append(pid)
        else:
            asyncio.run(serve(msgspec.json.decode(line, type=Options)))
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()

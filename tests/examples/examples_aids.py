"""Runs the scripts of `examples/` as a user would, in processes of their own, against a server on 127.0.0.1."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from chatsession_playground.bot_api import BotApiServer
from chatsession_playground.chats import Chat

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 120
"""Seconds to wait for a bot's answer; machines can be busy."""

# The frameworks have one default server each; nothing of a script is changed.
RUN_AGAINST = """
import runpy, sys
url, script = sys.argv[1:]
words = open(script).read()
if "aiogram" in words:
    from chatsession_playground._loopback import redirect_aiogram
    redirect_aiogram(url)
if "telegram.ext" in words:
    from telegram.ext import ApplicationBuilder
    build = ApplicationBuilder.build
    ApplicationBuilder.build = lambda self: build(self.base_url(url + "/bot"))
if "telebot" in words:
    from telebot import asyncio_helper
    asyncio_helper.API_URL = url + "/bot{0}/{1}"
    ask = asyncio_helper._process_request
    def post(*args, **given):  # the server overlooks the body of a GET
        return ask(*args, **given | {"method": "post"})
    asyncio_helper._process_request = post
    from telebot import apihelper
    apihelper.API_URL = url + "/bot{0}/{1}"
    ask_in_thread = apihelper._make_request
    def post_in_thread(*args, **given):
        return ask_in_thread(*args, **given | {"method": "post"})
    apihelper._make_request = post_in_thread
runpy.run_path(script, run_name="__main__")
"""


@asynccontextmanager
async def running(api: BotApiServer, script: str, folder: Path, **environment: str) -> AsyncGenerator[None]:
    """Run a script of `examples/` in a folder until the block ends."""
    bot = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", RUN_AGAINST, api.url, str(EXAMPLES / script)],
        cwd=folder,
        env=os.environ | {"BOT_TOKEN": api.token} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    waiting = asyncio.create_task(bot.communicate())
    try:
        await _until_it_polls(api, waiting)
        yield
    finally:
        if bot.returncode is None:
            bot.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(PATIENCE):
                await waiting
        except TimeoutError:
            bot.kill()
            await bot.wait()
            raise


async def answers(chat: Chat, *said: str) -> list[str]:
    """Say something, wait for the answer, and say the next."""
    texts: list[str] = []
    for text in said:
        chat.send(text)
        texts.append(await answer(chat))
    return texts


async def answer(chat: Chat) -> str:
    """The bot's next message."""
    return (await chat.receive(timeout=PATIENCE)).text


async def _until_it_polls(api: BotApiServer, ended: asyncio.Task[tuple[bytes, bytes]]) -> None:
    polls = asyncio.create_task(api.idle(timeout=PATIENCE))
    await asyncio.wait([polls, ended], return_when=asyncio.FIRST_COMPLETED)
    polls.cancel()
    if ended.done():
        raise AssertionError(f"the bot ended at once:\n{ended.result()[0].decode()}")
    await asyncio.gather(polls, return_exceptions=True)

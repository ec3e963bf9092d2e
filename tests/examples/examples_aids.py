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

RUN_AGAINST = """
import runpy, sys
from chatsession_playground._loopback import redirect
url, script = sys.argv[1:]
redirect(url)
runpy.run_path(script, run_name="__main__")
"""
"""Nothing of a script is changed."""


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

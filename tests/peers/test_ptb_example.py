"""python-telegram-bot's own example of a persistent conversation, with one line changed, killed in the middle."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from sdist import unpacked

from chatsession.storages import Record, open_storage
from chatsession_playground.bot_api import BotApiServer
from chatsession_playground.chats import Chat

PATIENCE = 120

STOCK = """    persistence = PicklePersistence(filepath="conversationbot")
    application = Application.builder().token("TOKEN").persistence(persistence).build()
"""
OURS = """    application = Application.builder().token("TOKEN").build()
    setup_persistence(application, "sqlite:///bot.db")
"""
IMPORT = "from chatsession.integrations.telegram_ext import setup_persistence\n"

RUN_AGAINST = """
import runpy, sys
from telegram.ext import ApplicationBuilder

url, token, script = sys.argv[1:]
build, name = ApplicationBuilder.build, ApplicationBuilder.token
ApplicationBuilder.build = lambda self: build(self.base_url(url + "/bot"))
ApplicationBuilder.token = lambda self, _: name(self, token)
runpy.run_path(script, run_name="__main__")
"""


@asynccontextmanager
async def running(api: BotApiServer, script: Path) -> AsyncGenerator[None]:
    """The bot in a process of its own, which is killed at the end."""
    bot = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", RUN_AGAINST, api.url, api.token, str(script)], cwd=script.parent, env=os.environ
    )
    try:
        await api.idle(timeout=PATIENCE)
        yield
        async with asyncio.timeout(PATIENCE):
            while api.pending:  # noqa: ASYNC110 - what is not confirmed would come again
                await asyncio.sleep(0.01)
    finally:
        bot.kill()
        await bot.wait()


async def says(ann: Chat, text: str) -> str:
    ann.send(text)
    return (await ann.receive(timeout=PATIENCE)).text


async def stored(folder: Path, *, state: int) -> Any:
    """What is stored of Ann, once her conversation is in a state: the answer may come a moment before."""
    async with asyncio.timeout(PATIENCE), open_storage(f"sqlite:///{folder}/bot.db") as storage:
        while True:
            (record,) = await storage.read_many(["ptb:id:1"])
            kept = msgspec.json.decode(record.value) if isinstance(record, Record) else {}
            if kept.get("conversations", {}).get("my_conversation") == {"[1,1]": state}:
                return kept
            await asyncio.sleep(0.01)


async def test_the_official_example_goes_on_after_kill_9(tmp_path: Path) -> None:
    root = unpacked("python-telegram-bot", tmp_path, "examples/persistentconversationbot.py")
    script = root / "examples/persistentconversationbot.py"
    text = script.read_text()
    assert text.count(STOCK) == 1
    script.write_text(text.replace(STOCK, OURS).replace("import logging\n", "import logging\n" + IMPORT, 1))
    async with BotApiServer() as api:
        ann = api.private_chat(1)
        async with running(api, script):
            assert "more complex conversation" in await says(ann, "/start")
            assert await says(ann, "Age") == "Your age? Yes, I would love to hear about that!"
            assert (await stored(script.parent, state=1))["user_data"] == {"choice": "age"}
        async with running(api, script):
            assert "age - 42" in await says(ann, "42")
            assert (await stored(script.parent, state=0))["user_data"] == {"age": "42"}
        async with running(api, script):
            assert "I already know the following about that: 42" in await says(ann, "Age")
            assert "I learned these facts about you: \nage - 42\n" in await says(ann, "Done")

"""The frameworks' own examples of states run unchanged but for one line, and go on after `kill -9`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from aiogram.fsm.storage.base import StorageKey
from sdist import unpacked

from chatsession.integrations.aiogram import SessionFSMStorage
from chatsession.integrations.telebot import SessionStateStorage
from chatsession_playground.bot_api import BotApiServer, Chat

LAUNCHER = """
import os, runpy, sys
url = os.environ["BOT_API"]
if sys.argv[1] == "aiogram":
    from aiogram.client.session.base import BaseSession
    from aiogram.client.telegram import TelegramAPIServer
    made = BaseSession.__init__
    BaseSession.__init__ = lambda self, *a, **k: made(self, *a, **{**k, "api": TelegramAPIServer.from_base(url)})
else:
    from telebot import apihelper, asyncio_helper
    apihelper.API_URL = asyncio_helper.API_URL = url + "/bot{0}/{1}"
runpy.run_path(sys.argv[2], run_name="__main__")
"""


class PublicBot(NamedTuple):
    package: str
    path: str
    line: tuple[str, str]
    """The one that is swapped, and what for."""
    before: Sequence[tuple[str, str]]
    """What Ann writes, and a part of the answer, until the bot is killed."""
    state: str
    after: Sequence[tuple[str, str]]


_IN_TELEBOT = (
    "state_storage = StateMemoryStorage()",
    "from chatsession.integrations.telebot import {0}; state_storage = {0}('sqlite:///bot.db')",
)
_QUESTIONS = [("/start", "first name"), ("Ann", "How old"), ("30", "favorite color")]
_ANSWERS = [("Red", "hobbies"), ("Reading", "First Name: Ann")]
BOTS = {
    "aiogram": PublicBot(
        "aiogram",
        "examples/finite_state_machine.py",
        (
            "dp = Dispatcher()",
            "dp = Dispatcher(); from chatsession.integrations.aiogram import setup_fsm; "
            "setup_fsm(dp, 'sqlite:///bot.db')",
        ),
        [("/start", "your name"), ("Ann", "Nice to meet you, Ann"), ("Yes", "programming language")],
        "Form:language",
        [("Python", "circuits"), ("", "that, Ann, you like to write bots with Python")],
    ),
    "telebot, async": PublicBot(
        "pyTelegramBotAPI",
        "examples/asynchronous_telebot/custom_states.py",
        (_IN_TELEBOT[0], _IN_TELEBOT[1].format("SessionStateStorage")),
        _QUESTIONS,
        "MyStates:color",
        _ANSWERS,
    ),
    "telebot, threads": PublicBot(
        "pyTelegramBotAPI",
        "examples/custom_states.py",
        (_IN_TELEBOT[0], _IN_TELEBOT[1].format("SyncSessionStateStorage")),
        _QUESTIONS,
        "MyStates:color",
        _ANSWERS,
    ),
}


@pytest.mark.parametrize("name", BOTS)
async def test_a_public_bot_goes_on_after_kill_9(name: str, tmp_path: Path) -> None:
    public = BOTS[name]
    source = unpacked(public.package, tmp_path, "examples") / public.path
    program = source.read_text()
    assert program.count(public.line[0]) == 1
    source.write_text(program.replace(*public.line).replace('"TOKEN"', '"42:playground"'))
    async with asyncio.timeout(240), BotApiServer() as api:
        ann = api.private_chat(user_id=1001, name="Ann")
        framework = "aiogram" if public.package == "aiogram" else "telebot"
        async with running(framework, source, tmp_path, api.url):
            await talk(ann, public.before)
            # What is not confirmed when the bot is killed would come again.
            while await stored_state(framework, tmp_path) != public.state or api.pending:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with running(framework, source, tmp_path, api.url):
            await talk(ann, public.after)


@asynccontextmanager
async def running(framework: str, source: Path, folder: Path, url: str) -> AsyncIterator[None]:
    """The bot, which is killed at the end."""
    environment = os.environ | {"BOT_API": url, "BOT_TOKEN": "42:playground", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LAUNCHER, framework, str(source), cwd=folder, env=environment
    )
    try:
        yield
        assert process.returncode is None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def talk(ann: Chat, lines: Sequence[tuple[str, str]]) -> None:
    for text, part in lines:
        if text:
            ann.send(text)
        assert part in (await ann.receive(timeout=120)).text


async def stored_state(framework: str, folder: Path) -> str | int | None:
    url = f"sqlite:///{folder}/bot.db"
    if framework == "aiogram":
        fsm = SessionFSMStorage(url)
        state: str | int | None = await fsm.get_state(StorageKey(42, 1001, 1001))
        await fsm.close()
        return state
    states = SessionStateStorage(url)
    state = await states.get_state(1001, 1001, bot_id=42)
    await states.close()
    return state

"""Bots that are killed with messages under way: every message is counted once, and answered."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from chatsession_playground.bot_api import BotApiServer
from tools.kills.bot import FRAMEWORKS, POISON
from tools.kills.campaign import Plan, run, start_bot
from tools.kills.mutants import MUTANTS

ATTEMPTS = 5


def plan(folder: Path, framework: str, way: str, **options: object) -> Plan:
    folder.mkdir(exist_ok=True)
    url = f"sqlite:///{folder}/bot.db"
    return Plan(framework, way, url, **{"messages": 60, "chats": 5, "kills": 2, "seed": 0, **options})  # type: ignore[arg-type] # as Plan has them


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("way", ["polling", "webhook"])
async def test_each_message_is_counted_once_and_answered(tmp_path: Path, framework: str, way: str) -> None:
    for attempt in range(ATTEMPTS):
        verdict = await run(plan(tmp_path / str(attempt), framework, way, seed=attempt))
        assert verdict.faults == []
        if verdict.kills:  # with messages under way; on a busy machine, the bot may be done before it is killed
            return
    pytest.fail(f"in {ATTEMPTS} rounds, no kill came in time")


@pytest.mark.parametrize("framework", ["ptb", "telebot-threads"])  # aiogram's is killed in its own tests
async def test_an_update_that_kills_is_set_aside(tmp_path: Path, framework: str) -> None:
    polling = plan(tmp_path, framework, "polling")
    async with BotApiServer() as api:
        ann = api.private_chat(1001)
        for text in ("before", POISON, "after"):
            ann.send(text)
        poison = api.pending[1].id
        for _ in range(2):
            assert await (await start_bot(polling, api, "2")).wait() == -signal.SIGKILL
        bot = await start_bot(polling, api, "2")
        answered = set[str]()
        while len(answered) < 2:  # an answer that a kill left unconfirmed may come twice
            answered.add((await ann.receive()).text.split()[0])
        await api.idle()
        assert api.pending == []
        bot.terminate()
        await bot.wait()
    assert answered == {"before", "after"}
    command = [sys.executable, "-m", "chatsession", "updates", polling.storage, "--json"]
    told = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    found = json.loads((await told.communicate())[0])
    assert (found["update"]["update_id"], found["update"]["message"]["text"]) == (poison, POISON)


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_a_library_that_is_broken_is_noticed(tmp_path: Path, mutant: str) -> None:
    """Or the test above would prove nothing. A round in which the kills come at harmless moments is repeated."""
    for attempt in range(ATTEMPTS):
        broken = plan(
            tmp_path / str(attempt), "telebot", "polling", messages=150, chats=20, kills=3, seed=attempt, mutant=mutant
        )
        if (await run(broken)).faults:
            return
    pytest.fail(f"{mutant} was not noticed in {ATTEMPTS} rounds")

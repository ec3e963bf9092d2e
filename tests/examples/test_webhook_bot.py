"""The webhook: real HTTP both ways, updates that come again, a group that moves, and strangers at the door."""

from __future__ import annotations

import asyncio
import runpy
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from examples_aids import EXAMPLES, answer, answers

from chatsession_playground.bot_api import BotApiServer


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, api: BotApiServer, tmp_path: Path) -> Iterator[socket.socket]:
    """Where the bot listens; the environment is set for it."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        settings = {
            "BOT_API": api.url,
            "BOT_TOKEN": api.token,
            "WEBHOOK_SECRET": "sesame",
            "WEBHOOK_URL": url_of(door),
            "SESSIONS": f"sqlite:///{tmp_path / 'bot.db'}",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield door


@asynccontextmanager
async def serving(door: socket.socket) -> AsyncGenerator[None]:
    app = runpy.run_path(str(EXAMPLES / "webhook_bot.py"))["app"]
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
    task = asyncio.create_task(server.serve(sockets=[door.dup()]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


def url_of(door: socket.socket) -> str:
    return f"http://127.0.0.1:{door.getsockname()[1]}/"


async def test_pizzas_are_counted_over_a_restart(api: BotApiServer, door: socket.socket) -> None:
    ann = api.private_chat(1)
    ann.send("🍕")  # before the bot is there
    async with serving(door):
        assert await answer(ann) == "Pizza number 1 for this chat!"
        assert await answers(ann, "🍕") == ["Pizza number 2 for this chat!"]
    async with serving(door):
        assert await answers(ann, "🍕", "/reset", "🍕") == [
            *("Pizza number 3 for this chat!", "Forgotten.", "Pizza number 1 for this chat!")
        ]


async def test_an_update_that_comes_again_is_answered_once(api: BotApiServer, door: socket.socket) -> None:
    ann = api.private_chat(1)
    async with serving(door):
        update = ann.send("🍕")
        await answer(ann)
        await answers(ann, "🍕")  # now the bot has confirmed the first one
        api.redeliver(update)
        assert await answers(ann, "/reset") == ["Forgotten."], "nothing was answered in between"


async def test_a_group_that_becomes_a_supergroup_keeps_its_count(api: BotApiServer, door: socket.socket) -> None:
    group = api.group()
    async with serving(door):
        await answers(group, "🍕")
        supergroup = group.migrate()
        assert await answers(supergroup, "🍕") == ["Pizza number 2 for this chat!"]


async def test_strangers_and_updates_of_other_kinds(api: BotApiServer, door: socket.socket) -> None:
    async with serving(door), httpx.AsyncClient() as stranger:
        ben = api.private_chat(2)
        api.inline_query(ben.user, "pizza")  # if it were not taken, what its user says next would not come through
        assert await answers(ben, "🍕") == ["Pizza number 1 for this chat!"]
        update = {"update_id": 1, "message": {"chat": {"id": 2}, "text": "🍕"}}
        for headers in ({}, {"X-Telegram-Bot-Api-Secret-Token": "wrong"}):
            assert (await stranger.post(url_of(door), json=update, headers=headers)).status_code == 403
        assert await answers(ben, "🍕") == ["Pizza number 2 for this chat!"]

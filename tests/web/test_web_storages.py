"""The same on every kind of storage: real servers, and sessions that a bot's manager wrote."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from web_aids import Visitor, keys_of

from chatsession import SessionManager
from chatsession.storages import open_storage
from chatsession.web import inspecting

URLS: dict[str, Callable[[pytest.FixtureRequest, Path], str]] = {
    "file": lambda _, folder: f"file://{folder}/sessions",
    "redis": lambda request, _: request.getfixturevalue("redis_server").url,
    "postgres": lambda request, _: request.getfixturevalue("postgres_server").url,
    "nats": lambda request, _: request.getfixturevalue("nats_server").url,
    "mongo": lambda request, _: request.getfixturevalue("mongo_server").url,
}


@pytest.mark.parametrize("kind", URLS)
async def test_find_edit_delete_and_undo(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = URLS[kind](request, tmp_path)
    prefix = f"web-{uuid.uuid4().hex}:"
    async with (
        SessionManager(dict[str, int], storage=open_storage(url), prefix=prefix) as bot,
        inspecting(open_storage(url)) as inspector,
        Visitor(inspector).let_in(inspector.invite()) as visitor,
    ):
        async with bot.open("42") as session:
            session.data["pizzas"] = 1
        key = f"{prefix}42"
        assert keys_of(await visitor.found(text=prefix)) == [key]
        _, seen = await visitor.ask("read", key=key)
        status, edited = await visitor.ask("write", key=key, mark=seen["mark"], text='{"pizzas": 5}', kind="json")
        assert status == 200
        assert await bot.get("42") == {"pizzas": 5}
        assert (await visitor.ask("write", key=key, mark=seen["mark"], text="1", kind="json"))[0] == 409
        async with bot.open("42") as session:
            session.data["pizzas"] += 1
        assert (await visitor.ask("undo", undo=edited["undo"]))[0] == 409
        _, seen = await visitor.ask("read", key=key)
        _, deleted = await visitor.ask("delete", key=key, mark=seen["mark"])
        assert await bot.get("42") is None
        assert (await visitor.ask("undo", undo=deleted["undo"]))[0] == 200
        assert await bot.get("42") == {"pizzas": 6}

"""What the page is told without asking again."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
from web_aids import Visitor, keys_of, put, stored

from chatsession import SessionManager
from chatsession.storages import Storage
from chatsession.storages.sqlite import SQLiteStorage
from chatsession.web import Inspector, inspecting


async def test_changes_are_told_as_the_bot_makes_them(bot: Storage, visitor: Visitor) -> None:
    async with SessionManager(int, storage=bot) as counters, aclosing(visitor.follow("watch", key="42")) as events:
        name, session = await anext(events)
        assert (name, session["stored"]) == ("session", False)
        for count in (1, 2, 3):
            await counters.update("42", lambda before: before + 1)
            _, session = await anext(events)
            assert session["text"] == str(count)
        async with counters.open("42") as open_session:
            open_session.data = None  # type: ignore[assignment] # deletes it
        _, session = await anext(events)
        assert not session["stored"]


async def test_trouble_is_told_and_its_end(file: Path) -> None:
    storage = SQLiteStorage(file)
    async with (
        inspecting(storage) as inspector,
        Visitor(inspector).let_in(inspector.invite()) as visitor,
        aclosing(visitor.follow("watch", key="42")) as events,
    ):
        assert (await anext(events))[0] == "session"
        await storage.close()
        name, told = await anext(events)
        assert name == "trouble"
        assert "closed" in told["error"]
        await storage.open()
        while name == "trouble":  # told again if opening takes long
            name, _ = await anext(events)
        assert name == "session"


async def test_figures_count_all_sessions(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {f"{number}": b"x" * 10 for number in range(1200)})
    await put(bot, {"large": b"x" * 5000}, ttl=1000)
    async with aclosing(visitor.follow("statistics")) as events:
        async for _, figures in events:
            if figures["counts"]:
                break
    assert figures["counts"][-1][1] == 1201
    assert figures["sizes"]["count"] == 1201
    assert figures["sizes"]["bytes"] == 17_000
    assert figures["sizes"]["expiring"] == 1
    assert figures["sizes"]["histogram"] == [[4, 1200], [13, 1]]
    assert figures["sizes"]["largest"][0] == [5000, "large"]
    assert {kind for _, kind, _ in figures["latencies"]} <= {"read", "commit"}


async def test_streams_end_with_the_inspector(file: Path) -> None:
    async with AsyncExitStack() as visit:
        async with inspecting(SQLiteStorage(file)) as inspector:
            visitor = await visit.enter_async_context(Visitor(inspector).let_in(inspector.invite()))
            watched = visitor.follow("watch", key="42")
            await anext(watched)
        assert [event async for event in watched] == []


async def test_the_command_prints_an_address_and_ends_by_ctrl_c(bot: Storage, file: Path) -> None:
    await put(bot, {"42": b"1"})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chatsession", "web", f"sqlite:///{file}", "--read-only"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    first, second = [(await process.stdout.readline()).decode() for _ in range(2)]
    assert "to look at only" in first
    address = second.strip()
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/enter\?token=\S+", address)
    assert found is not None
    async with Visitor(Inspector(int(found[1]), str)).let_in(address) as visitor:
        page = await visitor.found()
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert keys_of(page) == ["42"]
    assert (process.returncode, errors) == (0, b"")
    assert await stored(bot, "42") == b"1"


@pytest.mark.parametrize(
    ("url", "words", "code"),
    [
        ("mysql://user:secret@host/", "no storage is known", 3),
        ("sqlite:///nowhere/bot.db", "/nowhere/bot.db; nothing was created", 3),
        ("env:CHATSESSION_NOT_SET", "CHATSESSION_NOT_SET is not set", 2),
    ],
)
async def test_the_command_says_what_is_wrong_with_a_url(url: str, words: str, code: int) -> None:
    assert words in await errors_of(url, code=code)


async def test_the_command_says_that_a_port_is_taken(inspector: Inspector) -> None:
    errors = await errors_of("memory:", "--port", str(inspector.port), code=3)
    assert f"port {inspector.port} of 127.0.0.1 cannot be used" in errors


async def test_the_command_says_that_an_encryption_key_is_malformed() -> None:
    assert "encryption key" in await errors_of("memory:", code=2, CHATSESSION_ENCRYPTION_KEYS="secret")


async def test_without_its_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "starlette.py").write_text("raise ImportError('No module named starlette', name='starlette')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert "pip install 'chatsession[web]'" in await errors_of("memory:", code=2, PYTHONPATH=path)


async def errors_of(*arguments: str, code: int, **environment: str) -> str:
    """What the command says, which ends at once."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chatsession", "web", *arguments),
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    _, errors = await process.communicate()
    assert process.returncode == code
    assert b"secret" not in errors
    assert b"Traceback" not in errors
    return " ".join(errors.decode().split())

"""`move-in`: what other libraries have stored becomes sessions."""

from __future__ import annotations

import asyncio
import json
import pickle
from pathlib import Path

import pytest
from cli_aids import Shell

from chatsession import SessionManager


@pytest.fixture
def bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bot's module in the working directory, with a manager."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moving_bot.py").write_text(
        "from chatsession import SessionManager\n"
        "sessions = SessionManager(dict[str, int], storage='sqlite:///moved.db')\n"
    )
    monkeypatch.delitem(__import__("sys").modules, "moving_bot", raising=False)
    return "moving_bot:sessions"


def pickled(path: Path) -> str:
    data = {"user_data": {}, "chat_data": {1: {"count": 3}, 2: {"count": "many"}}, "bot_data": {}, "conversations": {}}
    path.write_bytes(pickle.dumps({**data, "callback_data": None}))
    return str(path)


async def stored(tmp_path: Path) -> dict[str, dict[str, int]]:
    async with SessionManager(dict[str, int], storage=f"sqlite:///{tmp_path / 'moved.db'}") as sessions:
        return {key: data async for key, data in sessions.entries()}


def test_a_pickle_moves_in_and_what_cannot_is_told(shell: Shell, bot: str, tmp_path: Path) -> None:
    source = pickled(tmp_path / "bot.pickle")
    dry = shell.bare("move-in", bot, "ptb-chat-data", source, "--dry-run", "--json")
    assert dry.code == 1
    assert json.loads(dry.out)["imported"] == 1
    assert asyncio.run(stored(tmp_path)) == {}

    done = shell.bare("move-in", bot, "ptb-chat-data", source)
    assert done.code == 1
    assert "imported: 1 of 2 entries; already there: 0; cannot be: 1" in done.err
    assert "many" not in done.err
    assert asyncio.run(stored(tmp_path)) == {"1": {"count": 3}}
    assert "already there: 1" in shell.bare("move-in", bot, "ptb-chat-data", source).err


def test_all_that_an_application_has_moves_in(shell: Shell, bot: str, tmp_path: Path) -> None:
    (tmp_path / "moving_bot.py").write_text(
        "from telegram.ext import Application\n"
        "from chatsession.integrations.telegram_ext import setup_persistence\n"
        "application = Application.builder().token('42:x').updater(None).build()\n"
        "setup_persistence(application, 'sqlite:///moved.db', prefix='')\n"
        "other = Application.builder().token('42:x').updater(None).build()\n"
    )
    source = pickled(tmp_path / "bot.pickle")
    dry = shell.bare("move-in", "moving_bot:application", "ptb", source, "--dry-run")
    assert "would be imported: 2 of 2" in dry.err
    done = shell.bare("move-in", "moving_bot:application", "ptb", source)
    assert (done.code, "imported: 2 of 2" in done.err) == (0, True)
    assert "already there: 2" in shell.bare("move-in", "moving_bot:application", "ptb", source).err
    wrong = shell.bare("move-in", "moving_bot:other", "ptb", source)
    assert "for which setup_persistence() was not called" in wrong.err


def test_grammys_files_move_in(shell: Shell, bot: str, tmp_path: Path) -> None:
    folder = tmp_path / "sessions" / "42"
    folder.mkdir(parents=True)
    (folder / "42.json").write_text('{"count":5}')
    done = shell.bare("move-in", bot, "grammy-files", str(tmp_path / "sessions"))
    assert (done.code, "imported: 1 of 1 entry" in done.err) == (0, True)
    assert asyncio.run(stored(tmp_path)) == {"42": {"count": 5}}


def test_a_source_that_is_not_there_is_an_error(shell: Shell, bot: str, tmp_path: Path) -> None:
    done = shell.bare("move-in", bot, "ptb-chat-data", str(tmp_path / "nothing"))
    assert done.code != 0
    assert "cannot be read: No such file or directory" in done.err

"""What the terminal and the page of the demo show of a chat, without a bot's process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiogram import Bot
from aiogram.types import InlineKeyboardButton, InlineKeyboardMarkup

from chatsession import SessionManager
from chatsession.storages.sqlite import SQLiteStorage
from chatsession_playground._bot_process import BotProcess
from chatsession_playground._chat_room import ChatRoom
from chatsession_playground._playground import Playground
from chatsession_playground._stage import Stage
from chatsession_playground._stored import StoredSession, StoredSessions
from chatsession_playground._style import Style
from chatsession_playground.bot_api import BotApiServer

THIS_OR_THAT = InlineKeyboardMarkup(
    inline_keyboard=[
        [InlineKeyboardButton(text=text, callback_data=text) for text in ("this", "that")],
        [InlineKeyboardButton(text="a link", url="https://example.com")],
    ]
)


@pytest.fixture
async def playground(api: BotApiServer, tmp_path: Path) -> AsyncIterator[Playground]:
    """Whose bot is the fixture `bot`, in this process."""
    process = BotProcess(tmp_path / "bot.py", url=api.url, token=api.token, folder=tmp_path)
    async with StoredSessions(tmp_path) as stored:
        playground = Playground(Stage(api, process, stored))
        listening = asyncio.create_task(playground.rooms.listen())
        yield playground
        listening.cancel()
        await asyncio.wait([listening])


async def test_buttons_are_numbered_and_pressed_in_the_terminal(
    api: BotApiServer, bot: Bot, playground: Playground, capsys: pytest.CaptureFixture[str]
) -> None:
    rooms, terminal = playground.rooms, ChatRoom(playground, Style(False))
    rooms.views.append(terminal)
    ann = rooms.all[0]
    terminal.do("/press 1")
    await bot.send_message(ann.chat.id, "Which?", reply_markup=THIS_OR_THAT)
    assert await rooms.until(lambda: ann.last_buttons is not None, timeout=60)
    for wrong in ("/press", "/press 0", "/press 3", "/press this"):
        terminal.do(wrong)
    assert not api.pending
    terminal.do("/press 2")
    assert capsys.readouterr().out.splitlines() == [
        "   The bot has sent no buttons here.",
        "   bot → Ann  Which?",
        "   /press  [1] this  [2] that",
        *["   /press needs a number from 1 to 2."] * 4,
    ]
    assert [update.payload["data"] for update in api.pending] == ["that"]


async def test_an_edited_message_replaces_what_was_said_before(bot: Bot, playground: Playground) -> None:
    rooms = playground.rooms
    ann = rooms.all[0]
    sent = await bot.send_message(ann.chat.id, "Which?", reply_markup=THIS_OR_THAT)
    await bot.edit_message_text("That one.", chat_id=ann.chat.id, message_id=sent.message_id, reply_markup=THIS_OR_THAT)
    await bot.edit_message_reply_markup(chat_id=ann.chat.id, message_id=sent.message_id)
    assert await rooms.until(lambda: bool(ann.lines) and not ann.last_buttons, timeout=60)
    assert [(line.who, line.text) for line in ann.lines] == [("bot, edited", "That one.")]
    await bot.delete_message(ann.chat.id, sent.message_id)
    assert await rooms.until(lambda: not ann.lines, timeout=60)


async def test_what_the_bot_answers_to_a_button_is_shown(bot: Bot, playground: Playground) -> None:
    rooms = playground.rooms
    group = rooms.all[-1]
    await bot.send_message(group.chat.id, "Which?", reply_markup=THIS_OR_THAT)
    assert await rooms.until(lambda: group.last_buttons is not None, timeout=60)
    line = group.last_buttons
    assert line is not None
    query = rooms.press(group, line, line.buttons[0], who="Ben")
    await bot.answer_callback_query(str(query.payload["id"]), text="This it is.")
    assert await rooms.until(lambda: group.lines[-1].kind == "note", timeout=60)
    said = [(line.who, line.text) for line in group.lines]
    assert said == [("bot", "Which?"), ("Ben", "[this]"), ("", "The bot shows: This it is.")]

    rooms.upgrade()  # the old chat's messages are out of reach
    assert group.last_buttons is None


async def test_two_looks_at_once_open_the_file_once(tmp_path: Path) -> None:
    async with SessionManager(int, storage=SQLiteStorage(tmp_path / "bot.db")) as bots:
        await bots.put("1", 2)
    async with StoredSessions(tmp_path) as stored:
        looks = await asyncio.gather(stored.all(), stored.all())
    assert looks == [{"1": StoredSession("2")}] * 2

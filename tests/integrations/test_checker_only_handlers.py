"""Handlers whose annotations name what only type checkers import; Python 3.14 evaluates them when somebody asks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from aiogram import Dispatcher
from aiogram_aids import BOT, Pizza, message
from telebot_aids import feed, make_bot

from chatsession import SessionManager
from chatsession.integrations import aiogram, telebot

SOURCE = """
async def handler(message: Hidden, session: Hidden) -> Hidden:
    session.count += 1
"""


def handler() -> Callable[..., Any]:
    """As in a user's module, in which nothing is named Hidden when the program runs."""
    future = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"
    module: dict[str, Any] = {"__name__": __name__}
    exec(compile(future + SOURCE, __file__, "exec", dont_inherit=True), module)
    return module["handler"]


async def test_aiogram(sessions: SessionManager[Pizza]) -> None:
    dp = Dispatcher()
    aiogram.setup_sessions(dp, sessions)
    dp.message.register(handler())
    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


async def test_telebot(sessions: SessionManager[Pizza]) -> None:
    errors: list[BaseException] = []
    bot = make_bot(errors)
    telebot.setup_sessions(bot, sessions)
    bot.register_message_handler(handler())
    await feed(bot, message())
    assert errors == []
    assert await sessions.get(1) == Pizza(1)

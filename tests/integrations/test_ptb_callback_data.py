"""Arbitrary `callback_data` of python-telegram-bot: answered in any process, also after a restart."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiogram_aids import ANN, CountingStorage, group, message, update
from ptb_aids import App, BurntError, NoServer, builder, errors_of, feed, on_text, serving
from ptb_persistence_aids import persistent
from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.ext import CallbackQueryHandler, InvalidCallbackData, PersistenceInput

from chatsession.errors import SessionEncodeError
from chatsession.storages import Storage
from chatsession_playground import _updates as build
from chatsession_playground._updates import JsonObject


class Telegram(NoServer):
    """Takes messages, and keeps them."""

    def __init__(self) -> None:
        self.sent: list[JsonObject] = []

    async def do_request(self, url: str, method: str, request_data: Any = None, *args: Any, **kwargs: Any) -> Any:
        if url.endswith("/getMe"):
            return await super().do_request(url, method, request_data)
        markup = json.loads(request_data.json_parameters["reply_markup"])
        bot = build.User(42, "Bot", is_bot=True)
        self.sent.append(build.message(7, 1, group(), bot, **build.text("choose"), reply_markup=markup))
        return 200, json.dumps({"ok": True, "result": self.sent[-1]}).encode()

    def press(self, column: int = 0) -> JsonObject:
        """An update: somebody presses a button of the last keyboard."""
        markup: Any = self.sent[-1]["reply_markup"]
        data = markup["inline_keyboard"][0][column]["callback_data"]
        return update(callback_query=build.callback_query("1", ANN, "1", data, pressed_on=self.sent[-1]))


def asking(storage: Storage | str, server: Telegram, *buttons: Any, **options: Any) -> tuple[App, list[Any]]:
    """An application that asks by a keyboard, and what it was answered."""
    made = builder(None).request(server).arbitrary_callback_data(True)
    application = persistent(storage, made=made, **options)
    answers: list[Any] = []

    async def ask(update: Update, context: Any) -> None:
        row = [InlineKeyboardButton(str(place), callback_data=data) for place, data in enumerate(buttons)]
        await context.bot.send_message(-100, "choose", reply_markup=InlineKeyboardMarkup([row]))
        if update.effective_message is not None and update.effective_message.text == "burn":
            raise BurntError

    async def answer(update: Update, context: Any) -> None:
        assert update.callback_query is not None
        answers.append(update.callback_query.data)
        if update.callback_query.data == "drop":
            context.drop_callback_data(update.callback_query)

    on_text(application, ask)
    application.add_handler(CallbackQueryHandler(answer))
    return application, answers


async def test_buttons_are_answered_after_a_restart(tmp_path: Path) -> None:
    server, storage = Telegram(), f"sqlite:///{tmp_path}/bot.db"
    application, _ = asking(storage, server, {"pizza": 1}, [1, 2])
    async with serving(application):
        await feed(application, message())
    application, answers = asking(storage, server)
    async with serving(application):
        await feed(application, server.press(0), server.press(1), server.press(0))
    assert answers == [{"pizza": 1}, [1, 2], {"pizza": 1}]


async def test_a_keyboard_stays_though_its_handler_failed(storage: CountingStorage) -> None:
    server = Telegram()
    application, answers = asking(storage, server, "yes")
    errors_of(application)
    async with serving(application):
        await feed(application, message("burn"))
        await feed(application, server.press())
    assert answers == ["yes"]


async def test_dropping_in_one_process_holds_in_all(storage: CountingStorage) -> None:
    server = Telegram()
    one, answers = asking(storage, server, "drop")
    other, others = asking(storage, server)
    async with serving(one), serving(other):
        await feed(one, message())
        await feed(other, server.press(), server.press())
        await feed(one, server.press())
    assert others[0] == "drop"
    assert isinstance(others[1], InvalidCallbackData)
    assert isinstance(answers[0], InvalidCallbackData)


async def test_data_that_cannot_be_stored_is_not_sent(storage: CountingStorage) -> None:
    server = Telegram()
    application, _ = asking(storage, server, {"fine": 1}, {"bad": [object()]})
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
    assert isinstance(errors[0], SessionEncodeError)
    assert '["bad"][0]' in str(errors[0])
    assert server.sent == []


@dataclass
class Choice:
    """The data of a button as a class."""

    pizza: int


async def test_data_of_a_class(storage: CountingStorage) -> None:
    server = Telegram()
    application, answers = asking(storage, server, Choice(1), callback_data=Choice)
    async with serving(application):
        await feed(application, message())
        await feed(application, server.press())
    assert answers == [Choice(1)]


@pytest.mark.parametrize("before", [None, datetime.now(UTC) + timedelta(days=1), 1e12])
async def test_clearing_all(storage: CountingStorage, before: Any) -> None:
    server = Telegram()
    application, answers = asking(storage, server, "yes")
    async with serving(application):
        await feed(application, message())
        application.bot.callback_data_cache.clear_callback_data(before)
        await application.update_persistence()
        await feed(application, server.press())
    assert isinstance(answers[0], InvalidCallbackData)


async def test_clearing_what_is_old(storage: CountingStorage) -> None:
    server = Telegram()
    application, answers = asking(storage, server, "yes")
    async with serving(application):
        await feed(application, message())
        application.bot.callback_data_cache.clear_callback_data(datetime(2020, 1, 1, tzinfo=UTC))
        await application.update_persistence()
        await feed(application, server.press())
    assert answers == ["yes"]


async def test_a_keyboard_is_forgotten_in_the_end(storage: CountingStorage) -> None:
    server = Telegram()
    application, answers = asking(storage, server, "yes", callback_data_ttl=10)
    async with serving(application):
        await feed(application, message())
        storage._clock = lambda: time.time() + 11
        await feed(application, server.press())
    assert isinstance(answers[0], InvalidCallbackData)


async def test_what_is_not_to_be_stored(storage: CountingStorage) -> None:
    server = Telegram()
    application, _ = asking(storage, server, "yes", store_data=PersistenceInput(callback_data=False))
    async with serving(application):
        await feed(application, message())
        assert await application.persistence.get_callback_data() == ([], {})


async def test_looking_at_what_is_stored(storage: CountingStorage) -> None:
    server = Telegram()
    application, answers = asking(storage, server, "yes")
    async with serving(application):
        await feed(application, message())
        ((uuid, sent_at, buttons),), _ = await application.persistence.get_callback_data()
        assert list(buttons.values()) == ["yes"]
        changed = dict.fromkeys(buttons, "no")
        await application.persistence.update_callback_data(([(uuid, sent_at, changed)], {}))
        await feed(application, server.press())
    assert answers == ["no"]

"""What the tests of aiogram's integration share: updates as Telegram sends them, and a storage that counts."""

from __future__ import annotations

from itertools import count
from typing import Any

from aiogram import Bot
from aiogram.fsm.context import FSMContext

from chatsession.testing.integration_suite.suite import CountingStorage, Pizza
from chatsession_playground import _updates as build
from chatsession_playground._updates import JsonObject, User

__all__ = [
    "ANN",
    "BEN",
    "BOT",
    "DATE",
    "CountingStorage",
    "Pizza",
    "group",
    "inline_query",
    "message",
    "update",
    "written",
]

ANN, BEN = User(1, "Ann"), User(2, "Ben")
DATE = 1_780_000_000
BOT = Bot("42:playground")  # asks nothing of any server unless a handler does

_ids = count(1)


def update(**payload: JsonObject) -> JsonObject:
    """An update of one kind: `update(message=…)`."""
    return {"update_id": next(_ids), **payload}


def message(text: str = "🍕", *, user: User = ANN, chat: JsonObject | None = None, **content: object) -> JsonObject:
    """An update: somebody writes, in the private chat unless another one is given."""
    return update(message=written(text, user=user, chat=chat, **content))


def written(
    text: str = "🍕", *, user: User | None = ANN, chat: JsonObject | None = None, **content: object
) -> JsonObject:
    """A `Message`; `user=None` for the posts of channels."""
    return build.message(next(_ids), DATE, chat or build.private_chat(user or ANN), user, **build.text(text), **content)


def group(chat_id: int = -100) -> JsonObject:
    return build.titled_chat(chat_id, "supergroup", "Group")


def inline_query(user: User = ANN) -> JsonObject:
    """An update without a chat."""
    return update(inline_query=build.inline_query("7", user, "pizza", ""))


async def value_of(state: FSMContext, name: str, default: Any = None) -> Any:
    """As `FSMContext.get_value`, which aiogram 3.13 has not."""
    return (await state.get_data()).get(name, default)

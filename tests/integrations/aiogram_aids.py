"""What the tests of aiogram's integration share: updates as Telegram sends them, and a storage that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import ClassVar

from aiogram import Bot

from chatsession import MemoryStorage
from chatsession.playground import _updates as build
from chatsession.playground._updates import JsonObject, User
from chatsession.storages import Change, Locked, LockRequest, Outcome, Record

ANN, BEN = User(1, "Ann"), User(2, "Ben")
DATE = 1_780_000_000
BOT = Bot("42:playground")  # asks nothing of any server unless a handler does

_ids = count(1)


@dataclass
class Pizza:
    count: int = 0
    toppings: list[str] = field(default_factory=list)


class CountingStorage(MemoryStorage):
    """Memory as other processes could share it, with locks, that counts how often it is asked for what."""

    shared: ClassVar[bool] = True
    immediate: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | None]:
        self.calls["read"] += len(keys)
        return await super().read_many(keys)

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | None]:
        self.calls["lock"] += len(requests)
        return await super().lock_many(requests)

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        self.calls.update(change.action.value for change in changes)
        return await super().commit_many(changes)


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

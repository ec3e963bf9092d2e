"""What grammY's own storage packages wrote moves in, by `chatsession.importers.grammy`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from grammy_aids import Place

from chatsession import SessionManager
from chatsession.importers import Entry, grammy, import_into


@dataclass
class Pizza:
    count: int = 0
    notes: list[str] = field(default_factory=list)


def one(old: dict[str, Any]) -> dict[str, Any]:
    return {**old, "notes": [*old.get("notes", []), "one"]}


async def of_chat(entries: AsyncIterator[Entry], chat: int) -> AsyncIterator[Entry]:
    """Other tests use the same servers."""
    async for entry in entries:
        if str(entry.key).endswith(str(chat)):
            yield entry


def entries(place: Place) -> AsyncIterator[Entry]:
    """From where the place's URL leads."""
    address, _, options = place.url.partition("?")
    if place.kind == "file":
        return grammy.file_entries(address.removeprefix("file://"))
    if place.kind == "redis":
        return grammy.redis_entries(address)
    if place.kind == "mongodb":
        return grammy.mongo_entries(place.url.partition("&layout")[0], collection="shared")
    return grammy.postgres_entries(address, table=options.rpartition("table=")[2])


@pytest.mark.parametrize("options", [{}, {"upTo": 1, "millisecondsToLive": 3_600_000}], ids=["plain", "enhanced"])
async def test_sessions_of_grammy_move_in(place: Place, chat: int, options: dict[str, object]) -> None:
    bot = place.grammy(**options)
    chats = [chat, -1_000_000_000_000 - chat]
    for each in chats:
        await bot("assign", each, {"count": 5, "notes": ["a", "ü🍕"]})
        await bot("count", each)
    async with SessionManager(Pizza, storage="memory:", migrations={1: one}) as sessions:
        report = await import_into(sessions, of_chat(entries(place), chat))
        assert report.failed == 0
        notes = ["a", "ü🍕"] if options else ["a", "ü🍕", "one"]
        assert [await sessions.get(each) for each in chats] == [Pizza(6, notes)] * 2
    for each in chats:
        await bot("delete", each)

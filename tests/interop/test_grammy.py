"""A bot written with grammY and one written with chatsession take turns on the same stored sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from grammy_aids import Grammy, Place

from chatsession import (
    LazySessionFlavor,
    SessionConflictError,
    SessionDecodeError,
    SessionError,
    SessionFlavor,
    SessionManager,
    SessionMigrationError,
    SessionOptions,
    lazy_session,
    multi_session,
    per_user_in_chat,
    session,
)
from chatsession.storages import Record, Storage

LONG = 3_600_000
"""Milliseconds to live that never pass in a test."""


@dataclass
class Pizza:
    count: int = 0
    notes: list[str] = field(default_factory=list[str])


def one(old: dict[str, Any]) -> dict[str, Any]:
    return old | {"notes": [*old.get("notes", []), "one"]}


def two(old: dict[str, Any]) -> dict[str, Any]:
    return old | {"notes": [*old["notes"], "two"]}


def three(old: dict[str, Any]) -> dict[str, Any]:
    return old | {"notes": [*old["notes"], "three"]}


MIGRATIONS = {1: one, 2: two, 3: three}


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[Storage]:
    async with place.storage() as storage:
        yield storage


def manager(storage: Storage, **options: Any) -> SessionManager[Pizza]:
    return SessionManager(Pizza, storage=storage, **options)


async def count_in(sessions: SessionManager[Pizza], chat: int, note: str | None = None) -> dict[str, Any]:
    """An update of the bot written with chatsession."""
    async with sessions.open(str(chat)) as opened:
        opened.data.count += 1
        if note is not None:
            opened.data.notes.append(note)
        return asdict(opened.data)


# Either may come first, and neither, one or both of them keep versions and times to live.
SETTINGS: dict[str, tuple[dict[str, object], dict[str, Any]]] = {
    "plain": ({}, {}),
    "lazy": ({"lazy": True}, {}),
    "grammY enhanced, to live": ({"millisecondsToLive": LONG}, {}),
    "both to live": ({"millisecondsToLive": LONG}, {"ttl": LONG / 1000}),
    "ours to live": ({}, {"ttl": LONG / 1000}),
    "both with migrations": ({"upTo": 2}, {"migrations": {1: one, 2: two}}),
    "grammY with migrations": ({"upTo": 2}, {}),
    "all": ({"upTo": 2, "millisecondsToLive": LONG}, {"migrations": {1: one, 2: two}, "ttl": LONG / 1000}),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("first", ["grammY", "chatsession"])
async def test_they_take_turns(place: Place, storage: Storage, chat: int, setting: str, first: str) -> None:
    theirs, ours = SETTINGS[setting]
    if "ttl" in ours and not storage.expiring:
        pytest.skip("this storage's records have no time to live")
    grammy, sessions = place.grammy(**theirs), manager(storage, **ours)
    turns = [first == "grammY", first != "grammY"] * 3
    # In a group, whose id is negative.
    group = -1_000_000_000_000 - chat
    for number, is_grammys in enumerate(turns, 1):
        for each in (chat, group):
            seen = await (grammy("count", each) if is_grammys else count_in(sessions, each))
            assert seen["count"] == number
    for each in (chat, group):
        left = await sessions.get(str(each))
        assert left is not None
        assert asdict(left) == await grammy("look", each)
        assert left.count == 6
        # Migrations know a new session that nobody had to migrate, and none runs twice.
        assert left.notes in ([], ["one", "two"])


async def test_a_whole_bot_takes_turns_by_its_middleware(place: Place, storage: Storage, chat: int) -> None:
    class Context(SessionFlavor[Pizza]):
        chat_id = chat

    class LazyContext(LazySessionFlavor[Pizza]):
        chat_id = chat

    strict, lazy = session(Pizza, storage=storage), lazy_session(Pizza, storage=storage)
    grammy = place.grammy(lazy=True)
    ctx, lazy_ctx = Context(), LazyContext()

    async def on_message() -> None:
        ctx.session.notes.append("strict")

    async def on_lazy_message() -> None:
        (await lazy_ctx.session).notes.append("lazy")

    await grammy("note", chat, "theirs")
    await strict(ctx, on_message)
    await grammy("note", chat, "theirs")
    await lazy(lazy_ctx, on_lazy_message)
    await grammy("ignore", chat)
    assert (await grammy("look", chat))["notes"] == ["theirs", "strict", "theirs", "lazy"]


@pytest.mark.parametrize("options", [{}, {"upTo": 2, "millisecondsToLive": LONG}], ids=["plain", "enhanced"])
async def test_all_that_json_can_hold_goes_there_and_back(
    place: Place, storage: Storage, chat: int, options: dict[str, object]
) -> None:
    data = {
        "text": "Маша ате 🍕 \u2028 \x00 \x7f \ud7ff \"\\/'",
        "numbers": [0, -1, 1.5, 1e-7, 2**53 - 1, -0.25],
        "others": [None, True, False, [], {}, [[{"": ""}]]],
        "__proto": {"constructor": "x"},
        "notes": ["one", "two"],
    }
    grammy = place.grammy(**options)
    sessions = SessionManager(dict[str, Any], storage=storage)
    async with sessions.open(str(chat)) as opened:
        opened.data = data
    assert await grammy("look", chat) == (data if not options else data | {"notes": ["one", "two", "one", "two"]})
    await grammy("assign", chat, data)
    assert await sessions.get(str(chat)) == data


async def test_fields_that_only_grammys_bot_knows_are_kept(place: Place, storage: Storage, chat: int) -> None:
    grammy, sessions = place.grammy(), manager(storage)
    await grammy("merge", chat, {"language": "uk", "size": {"cm": 32}})
    await count_in(sessions, chat)
    assert await grammy("look", chat) == {"count": 1, "notes": [], "language": "uk", "size": {"cm": 32}}


@pytest.mark.parametrize("options", [{}, {"upTo": 1, "millisecondsToLive": LONG}], ids=["plain", "enhanced"])
async def test_what_one_deletes_is_missing_for_the_other(
    place: Place, storage: Storage, chat: int, options: dict[str, object]
) -> None:
    grammy, sessions = place.grammy(**options), manager(storage)
    await grammy("count", chat)
    async with sessions.open(str(chat)) as opened:
        opened.data = None  # type: ignore[assignment]  # the contract's way to delete
    assert (await grammy("look", chat))["count"] == 0, "a new one"
    await grammy("delete", chat)
    assert await sessions.get(str(chat)) is None
    assert (await count_in(sessions, chat))["count"] == 1


async def test_keys_with_a_prefix_and_of_a_users_own(place: Place, storage: Storage, chat: int) -> None:
    grammy = place.grammy(prefix="bot:", key="perUserInChat")
    sessions = manager(storage, prefix="bot:", get_session_key=per_user_in_chat)

    class Context(SessionFlavor[Pizza]):
        chat_id = -chat
        user_id = 7

    ctx = Context()

    async def on_message() -> None:
        ctx.session.count += 1

    await grammy("count", -chat, user=7)
    await sessions.middleware()(ctx, on_message)
    assert (await grammy("count", -chat, user=7))["count"] == 3
    assert (await grammy("look", -chat, user=8))["count"] == 0
    assert await sessions.get(f"{-chat}:7") == Pizza(3)
    assert await sessions.get(f"{-chat}:8") == Pizza(0)


async def test_several_sessions_of_a_chat(place: Place, storage: Storage, chat: int) -> None:
    grammy = place.grammy(fragments=["cart", "profile"])
    options = {name: SessionOptions(initial=Pizza, storage=storage, prefix=f"{name}:") for name in ("cart", "profile")}
    middleware = multi_session(**options)

    class Context(SessionFlavor[Any]):
        chat_id = chat

    ctx = Context()

    async def on_message() -> None:
        ctx.session.cart.count += 1
        ctx.session.profile.notes.append("ours")

    await grammy("count", chat, fragment="cart")
    await middleware(ctx, on_message)
    await grammy("note", chat, "theirs", fragment="profile")
    assert (await grammy("look", chat, fragment="cart"))["count"] == 2
    assert (await grammy("look", chat, fragment="profile"))["notes"] == ["ours", "theirs"]


@pytest.mark.parametrize("concurrency", ["exclusive", "optimistic"])
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "new"])
async def test_what_grammy_writes_during_a_handler_is_not_overwritten(
    place: Place, storage: Storage, chat: int, concurrency: str, stored: bool
) -> None:
    """grammY waits for no lock; so this handler fails, and says so."""
    grammy, sessions = place.grammy(), manager(storage, concurrency=concurrency)
    if stored:
        await grammy("note", chat, "before")
    with pytest.raises(SessionConflictError):
        async with sessions.open(str(chat)) as opened:
            opened.data.notes.append("ours")
            await grammy("note", chat, "theirs")
    assert (await grammy("look", chat))["notes"] == ["before", "theirs"][not stored :]
    assert (await count_in(sessions, chat, "again"))["notes"][-2:] == ["theirs", "again"]


async def test_nothing_is_read_in_the_middle_of_grammys_writing(place: Place, storage: Storage, chat: int) -> None:
    grammy, sessions = place.grammy(), SessionManager(dict[str, Any], storage=storage)
    await grammy("merge", chat, {"text": "x" * 100_000})
    writing = asyncio.create_task(grammy("count", chat, times=150))
    seen = [0]
    while not writing.done():
        data = await sessions.get(str(chat))
        assert data is not None
        assert len(data["text"]) == 100_000
        seen.append(data["count"])
    await writing
    assert seen == sorted(seen)
    assert (await grammy("look", chat))["count"] == 150


async def test_neither_disturbs_the_other_in_chats_of_their_own(place: Place, storage: Storage, chat: int) -> None:
    grammy, sessions = place.grammy(), manager(storage)
    group = -1_000_000_000_000 - chat
    theirs = asyncio.create_task(grammy("count", chat, times=100))
    await asyncio.gather(*(count_in(sessions, group) for _ in range(100)))
    await theirs
    assert [await sessions.get(str(each)) for each in (chat, group)] == [Pizza(100), Pizza(100)]


class TestMigrations:
    @pytest.mark.parametrize("first", ["grammY", "chatsession"])
    async def test_old_data_is_migrated_once(self, place: Place, storage: Storage, chat: int, first: str) -> None:
        """Data from before, then of version 1, then of version 3: whoever comes first takes the steps."""
        await place.grammy()("assign", chat, {"count": 5})
        bots: list[Grammy | SessionManager[Pizza]] = []
        for up_to in (1, 3):
            both = [place.grammy(upTo=up_to), manager(storage, migrations=dict(list(MIGRATIONS.items())[:up_to]))]
            bots += both if first == "grammY" else both[::-1]
        for number, bot in enumerate(bots, 6):
            seen = await (bot("count", chat) if isinstance(bot, Grammy) else count_in(bot, chat))
            assert seen == {"count": number, "notes": ["one"] if number < 8 else ["one", "two", "three"]}

    async def test_a_bot_without_migrations_keeps_the_version(self, place: Place, storage: Storage, chat: int) -> None:
        grammy = place.grammy(upTo=2)
        await place.grammy()("assign", chat, {"count": 0})
        await grammy("count", chat)
        await count_in(manager(storage), chat)
        assert await grammy("count", chat) == {"count": 3, "notes": ["one", "two"]}

    async def test_data_of_a_newer_grammy_bot_is_left_as_it_is(self, place: Place, storage: Storage, chat: int) -> None:
        grammy = place.grammy(upTo=3)
        await grammy("note", chat, "theirs")
        with pytest.raises(SessionMigrationError):
            await count_in(manager(storage, migrations={1: one}), chat)
        assert await grammy("look", chat) == {"count": 0, "notes": ["theirs"]}


class TestTimesToLive:
    async def test_what_has_expired_for_grammy_is_missing_here(self, place: Place, storage: Storage, chat: int) -> None:
        brief, sessions = place.grammy(millisecondsToLive=50), manager(storage)
        await brief("count", chat)

        for _ in range(1000):
            if await sessions.get(str(chat)) is None:
                break
            await asyncio.sleep(0.01)
        assert (await count_in(sessions, chat))["count"] == 1
        assert (await place.grammy(millisecondsToLive=LONG)("count", chat))["count"] == 2

    async def test_a_bot_without_a_ttl_keeps_grammys_expiry(self, place: Place, storage: Storage, chat: int) -> None:
        await place.grammy(millisecondsToLive=LONG)("count", chat)
        before = await _stored(storage, chat)
        await count_in(manager(storage), chat)
        after = await _stored(storage, chat)
        assert before["e"] == after["e"]
        assert after["__d"]["count"] == 2

    async def test_a_ttl_of_ours_takes_the_place_of_grammys_and_back(
        self, place: Place, storage: Storage, chat: int
    ) -> None:
        if not storage.expiring:
            with pytest.raises(SessionError, match="ttl needs a storage with expiry"):
                manager(storage, ttl=LONG / 1000)
            return
        grammy, sessions = place.grammy(millisecondsToLive=LONG), manager(storage, ttl=LONG / 1000)
        await grammy("count", chat)
        await count_in(sessions, chat)
        assert (await _record(storage, chat)).expires_at is not None
        assert "__d" not in await _stored(storage, chat)
        await grammy("count", chat)
        assert (await _record(storage, chat)).expires_at is None, "grammY counts anew, in its own way"
        assert "e" in await _stored(storage, chat)


@pytest.mark.parametrize(
    "value", [[1, 2], {"count": "1"}, {"notes": ["\ud83c"]}], ids=["another type", "wrong field", "half an emoji"]
)
async def test_a_value_that_does_not_fit_is_an_error_and_stays(
    place: Place, storage: Storage, chat: int, value: object
) -> None:
    if place.kind == "mongodb" and value == {"notes": ["\ud83c"]}:
        pytest.skip("MongoDB's driver for Node replaces it before it is stored")
    grammy = place.grammy()
    await grammy("assign", chat, value)
    with pytest.raises(SessionDecodeError):
        await count_in(manager(storage), chat)
    assert await grammy("look", chat) == value


async def _record(storage: Storage, chat: int) -> Record:
    (record,) = await storage.read_many([str(chat)])
    assert isinstance(record, Record)
    return record


async def _stored(storage: Storage, chat: int) -> dict[str, Any]:
    return json.loads((await _record(storage, chat)).value)

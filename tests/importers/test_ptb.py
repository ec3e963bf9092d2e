"""What a bot of python-telegram-bot kept by its own `PicklePersistence` moves in."""

from __future__ import annotations

import collections
import datetime
import enum
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from telegram import Chat, Message, User
from telegram.ext import Application, ContextTypes, ConversationHandler, PicklePersistence, TypeHandler

from chatsession import SessionError, SessionManager, per_chat, per_user
from chatsession.importers import Entry, import_into, ptb

NOW = datetime.datetime(2026, 5, 4, 3, 2, 1, tzinfo=datetime.UTC)


class Size(enum.Enum):
    SMALL = "small"


@dataclass
class Cart:
    """A custom type of `user_data`."""

    items: list[str] = field(default_factory=list)
    size: Size = Size.SMALL


@dataclass
class Customer:
    name: str = ""
    seen: datetime.datetime | None = None
    orders: dict[int, int] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)


@dataclass
class Stored:
    """What is given to the persistence."""

    user_data: dict[int, Any] = field(default_factory=dict)
    chat_data: dict[int, Any] = field(default_factory=dict)
    bot_data: Any = None
    conversations: dict[tuple[int, ...], object] = field(default_factory=dict)


async def store(path: Path, stored: Stored, *, single_file: bool = True, types: ContextTypes | None = None) -> None:
    """As an application does when it stops."""
    persistence = PicklePersistence(path, single_file=single_file, on_flush=False, context_types=types)
    application = Application.builder().token("1:a").persistence(persistence).build()
    application.add_handler(TypeHandler(object, lambda update, context: None))
    persistence.set_bot(application.bot)
    for user, data in stored.user_data.items():
        await persistence.update_user_data(user, data)
    for chat, data in stored.chat_data.items():
        await persistence.update_chat_data(chat, data)
    if stored.bot_data is not None:
        await persistence.update_bot_data(stored.bot_data)
    for key, state in stored.conversations.items():
        await persistence.update_conversation("wizard", key, state)
    await persistence.flush()


async def read(path: Path, kind: ptb.Kind, **options: Any) -> list[Entry]:
    return [entry async for entry in ptb.entries(path, kind, **options)]


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def content(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.pickle"


@pytest.mark.parametrize("single_file", [True, False])
async def test_user_chat_and_bot_data_move_in(path: Path, single_file: bool) -> None:
    stored = Stored(
        {42: {"name": "Ada", "seen": NOW, "orders": {7: 2}, "tags": {"a"}}, 43: {}, 44: {"name": "Eve"}},
        {-1001: {"count": 3}},
        {"admins": [42]},
    )
    await store(path, stored, single_file=single_file)
    customers = SessionManager(Customer, storage="memory:", get_session_key=per_user)
    async with customers:
        report = await import_into(customers, ptb.entries(path, "user_data"))
        assert {key: customer async for key, customer in customers.entries()} == {
            "42": Customer("Ada", NOW, {7: 2}, {"a"}),
            "44": Customer("Eve"),
        }
        assert (report.seen, report.imported, report.failed) == (2, 2, 0)
    async with SessionManager(dict[str, int], storage="memory:", get_session_key=per_chat) as chats:
        await import_into(chats, ptb.entries(path, "chat_data"))
        assert {key: data async for key, data in chats.entries()} == {"-1001": {"count": 3}}
    async with SessionManager(dict[str, list[int]], storage="memory:") as bots:
        await import_into(bots, ptb.entries(path, "bot_data"))
        assert {key: data async for key, data in bots.entries()} == {"bot": {"admins": [42]}}


@pytest.mark.parametrize("single_file", [True, False])
async def test_what_an_application_itself_has_stored_moves_in(path: Path, single_file: bool) -> None:
    persistence = PicklePersistence(path, single_file=single_file)
    application = Application.builder().token("1:a").persistence(persistence).build()
    await application._initialize_persistence()  # without a server, `initialize` would ask for the bot's name
    application.user_data[5]["count"] = 1
    application.chat_data[-6]["count"] = 2
    application.bot_data["started"] = NOW
    application.mark_data_for_update_persistence(chat_ids=-6, user_ids=5)
    await application.update_persistence()
    assert [entry.data for entry in await read(path, "user_data")] == [{"count": 1}]
    assert [entry.data for entry in await read(path, "chat_data")] == [{"count": 2}]
    assert [entry.data for entry in await read(path, "bot_data")] == [{"started": NOW}]


async def test_entries_know_whose_they_are(path: Path) -> None:
    await store(path, Stored({42: {"a": 1}}, {-1001: {"a": 1}}, {"a": 1}))
    (user,) = await read(path, "user_data")
    (chat,) = await read(path, "chat_data")
    (bot,) = await read(path, "bot_data")
    assert (user.user_id, user.chat_id, user.key, user.origin) == (42, None, None, "user_data[42]")
    assert (chat.user_id, chat.chat_id, chat.key, chat.origin) == (None, -1001, None, "chat_data[-1001]")
    assert (bot.user_id, bot.chat_id, bot.key, bot.origin) == (None, None, "bot", "bot_data")


async def test_conversations_and_buttons_are_told_to_be_left_behind(path: Path) -> None:
    stored = Stored(chat_data={1: {"a": 1}}, conversations={(1, 2): 5, (1, 3): ConversationHandler.WAITING})
    await store(path, stored)
    async with SessionManager(dict[str, int], storage="memory:") as sessions:
        report = await import_into(sessions, ptb.entries(path, "chat_data"))
    assert (report.imported, report.failed) == (1, 0)
    assert report.left_behind == {"states of ConversationHandlers": 2}


async def test_custom_types_move_in_when_they_are_allowed(path: Path) -> None:
    types = ContextTypes(user_data=Cart)
    await store(path, Stored({1: Cart(["pizza"]), 2: Cart()}), types=types)
    async with SessionManager(Cart, storage="memory:", get_session_key=per_user) as sessions:
        report = await import_into(sessions, ptb.entries(path, "user_data"))
        assert report.reasons == {f"has an object of '{__name__}.Cart', which is not in allow=…": 2}
        report = await import_into(sessions, ptb.entries(path, "user_data", allow=[f"{__name__}.*"]))
        assert report.imported == 2
        assert await sessions.get(1) == Cart(["pizza"])


async def test_telegram_objects_become_dicts_of_what_they_say(path: Path) -> None:
    message = Message(7, NOW, Chat(-5, "group", title="G"), from_user=User(3, "Ada", False), text="hello")
    await store(path, Stored(chat_data={1: {"last": message}}))
    assert [entry.problem for entry in await read(path, "chat_data")] == [
        "has an object of 'telegram._message.Message', which is not in allow=…"
    ]
    ((entry),) = await read(path, "chat_data", allow=["telegram.*"])
    last = entry.data["last"]
    assert (last["message_id"], last["text"], last["date"]) == (7, "hello", NOW)
    assert (last["chat"]["title"], last["from_user"]["first_name"]) == ("G", "Ada")


async def test_one_entry_with_strange_objects_fails_alone(path: Path) -> None:
    await store(path, Stored(chat_data={1: {"a": 1}, 2: {"a": Size.SMALL}, 3: {"a": 3}}))
    async with SessionManager(dict[str, int], storage="memory:") as sessions:
        report = await import_into(sessions, ptb.entries(path, "chat_data"))
        assert (report.imported, report.failed) == (2, 1)
        assert report.failures[0][0] == "chat_data[2]"


class _Bomb:
    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> Any:
        return os.system, (self._command,)


@pytest.mark.parametrize("single_file", [True, False])
@pytest.mark.parametrize("where", ["user_data", "conversations", "whole"])
async def test_a_malicious_pickle_does_not_run(path: Path, tmp_path: Path, where: str, single_file: bool) -> None:
    ran = tmp_path / "ran"
    bomb = _Bomb(f"touch {ran}")
    if where == "whole":
        for file in (path, Path(f"{path}_user_data")):
            put(file, pickle.dumps(bomb))
        with pytest.raises(SessionError, match="not what a PicklePersistence writes"):
            await read(path, "user_data", single_file=single_file)
    else:
        stored = Stored({1: {"a": bomb}} if where == "user_data" else {}, conversations={(1, 1): bomb})
        await store(path, stored, single_file=single_file)
        problems = [entry.problem for entry in await read(path, "user_data") if entry.problem is not None]
        assert problems == (
            ["has an object of 'posix.system', which is not in allow=…"] if where == "user_data" else []
        )
    assert not ran.exists()


async def test_a_file_that_is_cut_or_missing_is_an_error(path: Path) -> None:
    with pytest.raises(SessionError, match="cannot be read: No such file"):
        await read(path, "user_data")
    await store(path, Stored({n: {"a": "x" * 50} for n in range(100)}))
    whole = content(path)
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        put(path, whole[:size])
        with pytest.raises(SessionError, match="is not a whole pickle"):
            await read(path, "user_data")
    put(path, pickle.dumps([1, 2]))
    with pytest.raises(SessionError, match="not what a PicklePersistence writes"):
        await read(path, "user_data")
    with pytest.raises(ValueError, match="kind must be"):
        await read(path, "conversations")  # type: ignore[arg-type] # on purpose


async def test_a_kind_that_was_never_stored_is_empty(path: Path) -> None:
    await store(path, Stored({1: {"a": 1}}), single_file=False)
    assert await read(path, "chat_data") == []


async def test_the_persistence_of_old_versions_is_read(path: Path) -> None:
    """Until version 13 it stored defaultdicts, with an older protocol."""
    users: dict[int, Any] = collections.defaultdict(dict)
    users[1]["a"] = 1
    put(path, pickle.dumps({"conversations": {}, "user_data": users, "chat_data": users}, protocol=3))
    assert [entry.data for entry in await read(path, "user_data")] == [{"a": 1}]
    assert await read(path, "bot_data") == []


async def test_ids_that_are_none_are_told(path: Path) -> None:
    put(path, pickle.dumps({"conversations": {}, "user_data": {"ada": {"a": 1}}, "chat_data": {}}))
    assert [entry.problem for entry in await read(path, "user_data")] == [
        "its id is not a number, or is larger than any of Telegram's"
    ]


@pytest.mark.parametrize("protocol", [0, 4])
async def test_an_id_of_thousands_of_digits_fails_alone(path: Path, protocol: int) -> None:
    huge = pickle.dumps({"chat_data": {10**10: {"a": 1}, 5: {"a": 2}}}, protocol=protocol)
    if protocol == 0:
        huge = huge.replace(b"L10000000000L\n", b"L" + b"9" * 5000 + b"L\n")
    else:
        huge = pickle.dumps({"chat_data": {1 << 20_000: {"a": 1}, 5: {"a": 2}}}, protocol=protocol)
    put(path, huge)
    report = await import_into(SessionManager(dict[str, int], storage="memory:"), ptb.entries(path, "chat_data"))
    assert (report.seen, report.imported, report.failed) == (2, 1, 1)

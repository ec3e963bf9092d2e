"""FSM data that aiogram's own `RedisStorage` wrote moves in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiogram.fsm.state import State, StatesGroup
from aiogram.fsm.storage.base import DefaultKeyBuilder, StorageKey
from aiogram.fsm.storage.redis import RedisStorage
from redis.asyncio import Redis

from chatsession import SessionManager, StorageUnavailableError, per_chat, per_user_in_chat
from chatsession.importers import Entry, aiogram_fsm, import_into
from chatsession.importers.aiogram_fsm import DefaultKeys
from tools.servers._process import free_ports

if TYPE_CHECKING:
    from tools.servers.redis import RedisServer


class Form(StatesGroup):
    name = State()
    age = State()


@dataclass
class Wizard:
    step: str | None = None
    answers: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_server.url)
    await client.flushdb()
    yield client
    await client.flushdb()
    await client.aclose()


async def read(redis: Redis | str, key_builder: Any = None) -> list[Entry]:
    return [entry async for entry in aiogram_fsm.entries(redis, key_builder=key_builder)]


async def test_data_and_state_move_in(redis: Redis, redis_server: RedisServer) -> None:
    fsm = RedisStorage(redis)
    await fsm.set_data(StorageKey(1, -100, 42), {"name": "Ada"})
    await fsm.set_state(StorageKey(1, -100, 42), Form.age)
    await fsm.set_state(StorageKey(1, 43, 43), Form.name)
    await fsm.set_data(StorageKey(1, 44, 44), {"name": "Eve"})

    def convert(entry: Entry) -> Wizard:
        return Wizard(entry.state, entry.data)

    async with SessionManager(Wizard, storage="memory:", get_session_key=per_user_in_chat) as sessions:
        report = await import_into(sessions, aiogram_fsm.entries(redis_server.url), convert=convert)
        assert (report.seen, report.imported) == (3, 3)
        assert {key: wizard async for key, wizard in sessions.entries()} == {
            "-100:42": Wizard("Form:age", {"name": "Ada"}),
            "43:43": Wizard("Form:name", {}),
            "44:44": Wizard(None, {"name": "Eve"}),
        }


async def test_without_convert_data_fits_and_the_state_is_left_behind(redis: Redis) -> None:
    fsm = RedisStorage(redis)
    for user in range(500):
        await fsm.set_data(StorageKey(1, user, user), {"count": user})
    await fsm.set_state(StorageKey(1, 7, 7), Form.name)
    async with SessionManager(dict[str, int], storage="memory:") as sessions:
        report = await import_into(sessions, aiogram_fsm.entries(redis))
        assert report.left_behind == {"aiogram's state": 1}
        assert {key: data async for key, data in sessions.entries()} == {
            str(user): {"count": user} for user in range(500)
        }


async def test_users_of_one_group_do_not_overwrite_each_other(redis: Redis) -> None:
    fsm = RedisStorage(redis)
    for user in (1, 2, 3):
        await fsm.set_data(StorageKey(1, -100, user), {"count": user})
    async with SessionManager(dict[str, int], storage="memory:", get_session_key=per_chat) as sessions:
        report = await import_into(sessions, aiogram_fsm.entries(redis))
        assert (report.imported, report.failed) == (1, 2)


KEYS = [
    StorageKey(1, -100, 42),
    StorageKey(1, 42, 42, business_connection_id="hNx7"),
    StorageKey(1, -100, 42, thread_id=7),
    StorageKey(1, -100, 42, thread_id=7, business_connection_id="hNx7"),
    StorageKey(1, -100, 42, destiny="other"),
    StorageKey(1, -100, 42, destiny="5"),
    StorageKey(1, -100, 42, thread_id=7, destiny="5"),
    StorageKey(1, -100, 42, destiny="aiogd:stack:"),
]


@pytest.mark.parametrize(
    ("key", "with_destiny"),
    [(key, with_) for key in KEYS for with_ in (False, True) if with_ or key.destiny == "default"],
    ids=str,
)
@pytest.mark.parametrize("with_bot_id", [False, True])
@pytest.mark.parametrize("with_business_connection_id", [False, True])
@pytest.mark.parametrize(("prefix", "separator"), [("fsm", ":"), ("my*bot[1]", "|")])
async def test_all_forms_of_keys(
    redis: Redis,
    key: StorageKey,
    with_bot_id: bool,
    with_business_connection_id: bool,
    with_destiny: bool,
    prefix: str,
    separator: str,
) -> None:
    options: dict[str, Any] = {
        "prefix": prefix,
        "separator": separator,
        "with_bot_id": with_bot_id,
        "with_business_connection_id": with_business_connection_id,
        "with_destiny": with_destiny,
    }
    fsm = RedisStorage(redis, key_builder=DefaultKeyBuilder(**options))
    await fsm.set_data(key, {"a": 1})
    await fsm.set_state(key, "Form:name")
    for keys in (DefaultKeys(**options), DefaultKeyBuilder(**options)):
        (entry,) = await read(redis, keys)
        assert entry.problem is None
        assert (entry.chat_id, entry.user_id, entry.thread_id) == (key.chat_id, key.user_id, key.thread_id)
        assert entry.bot_id == (key.bot_id if with_bot_id else None)
        business = key.business_connection_id if with_business_connection_id else None
        assert entry.business_connection_id == business
        assert entry.destiny == (key.destiny if with_destiny else None)
        assert (entry.data, entry.state) == ({"a": 1}, "Form:name")


async def test_what_is_not_the_fsms_is_told_or_passed_over(redis: Redis) -> None:
    await redis.mset({"fsm:x:data": "{}", "fsm:1:2:3:4:data": "{}", "fsm:1:2:data": b"\x80pickle", "fsm:1:2:lock": "x"})
    await redis.mset({"other:1:2:data": "{}", "cache": "1", "fsm:1:1:state": "Form:age"})
    await redis.lpush("fsm:3:3:data", "a list")
    found = await read(redis)
    assert sorted((entry.problem or "", entry.state or "") for entry in found) == [
        ("", "Form:age"),
        ("its data is not JSON", ""),
        ("its key is not of the form that key_builder says", ""),
        ("its key is not of the form that key_builder says", ""),
    ]


async def test_an_import_while_the_bot_writes_states(redis: Redis) -> None:
    """What comes or goes meanwhile may be missed, but nothing is imported twice, and nothing fails."""
    fsm = RedisStorage(redis)
    for user in range(300):
        await fsm.set_data(StorageKey(1, user, user), {"count": 1})
    done = asyncio.Event()

    async def bot() -> None:
        user = 1000
        while not done.is_set():
            user += 1
            await fsm.set_state(StorageKey(1, user, user), Form.name)
            await fsm.set_data(StorageKey(1, user, user), {"count": 1})
            await fsm.set_state(StorageKey(1, user - 3, user - 3), None)
            await fsm.set_data(StorageKey(1, user - 3, user - 3), {})

    async with SessionManager(dict[str, int], storage="memory:") as sessions, asyncio.TaskGroup() as group:
        task = group.create_task(bot())
        report = await import_into(sessions, aiogram_fsm.entries(redis))
        done.set()
        await task
        assert report.failed == 0
        found = [key async for key, _ in sessions.entries()]
        assert {str(user) for user in range(300)} <= set(found)


async def test_a_server_that_is_gone_is_an_error(tmp_path: Any) -> None:
    with pytest.raises(StorageUnavailableError, match="Redis did not answer"):
        await read(f"redis://127.0.0.1:{free_ports(1)[0]}/0")

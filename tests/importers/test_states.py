"""The states of aiogram and telebot move into the storages that `setup_fsm` gives."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiogram.fsm.state import State, StatesGroup
from aiogram.fsm.storage.base import DefaultKeyBuilder, StorageKey
from aiogram.fsm.storage.redis import RedisStorage
from redis.asyncio import Redis

from chatsession import SessionError, StorageUnavailableError
from chatsession.importers import aiogram_fsm, import_states, telebot_states
from chatsession.integrations.aiogram import SessionFSMStorage
from chatsession.integrations.telebot import SessionStateStorage
from tools.servers._process import free_ports

if TYPE_CHECKING:
    from tools.servers.mongo import MongoServer
    from tools.servers.redis import RedisServer


class Form(StatesGroup):
    age = State()


ANNS, IN_GROUP = StorageKey(42, 1, 1), StorageKey(42, -100, 1)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_server.url)
    await client.flushdb()
    yield client
    await client.flushdb()
    await client.aclose()


@pytest.fixture
async def fsm() -> AsyncIterator[SessionFSMStorage]:
    storage = SessionFSMStorage("memory:")
    yield storage
    await storage.close()


@pytest.fixture
async def states() -> AsyncIterator[SessionStateStorage]:
    storage = SessionStateStorage("memory:")
    yield storage
    await storage.close()


class TestAiogramsRedis:
    async def test_states_and_data_move_in(
        self, redis: Redis, redis_server: RedisServer, fsm: SessionFSMStorage
    ) -> None:
        old = RedisStorage(redis)
        await old.set_state(ANNS, Form.age)
        await old.set_data(ANNS, {"name": "Ada"})
        await old.set_data(IN_GROUP, {"name": "Eve"})
        dry = await import_states(fsm, aiogram_fsm.entries(redis_server.url), bot_id=42, dry_run=True)
        assert (dry.imported, await fsm.sessions.count()) == (2, 0)
        for expected in (2, 0):
            report = await import_states(fsm, aiogram_fsm.entries(redis_server.url), bot_id=42)
            assert (report.imported, report.existing, report.failed) == (expected, 2 - expected, 0)
        assert (await fsm.get_state(ANNS), await fsm.get_data(ANNS)) == ("Form:age", {"name": "Ada"})
        assert (await fsm.get_state(IN_GROUP), await fsm.get_data(IN_GROUP)) == (None, {"name": "Eve"})

    async def test_all_parts_of_a_key(self, redis: Redis, fsm: SessionFSMStorage) -> None:
        keys = DefaultKeyBuilder(with_bot_id=True, with_business_connection_id=True, with_destiny=True)
        old = RedisStorage(redis, key_builder=keys)
        key = StorageKey(43, -100, 1, 7, "b7", "scenes_history")
        await old.set_data(key, {"history": []})
        report = await import_states(fsm, aiogram_fsm.entries(redis, key_builder=keys))
        assert (report.imported, report.failures) == (1, [])
        assert await fsm.get_data(key) == {"history": []}

    async def test_without_the_bots_id(self, redis: Redis, fsm: SessionFSMStorage) -> None:
        await RedisStorage(redis).set_state(ANNS, "x")
        report = await import_states(fsm, aiogram_fsm.entries(redis))
        assert (report.imported, report.failed) == (0, 1)


class TestAiogramsMongo:
    async def test_states_and_data_move_in(self, mongo_server: MongoServer, fsm: SessionFSMStorage) -> None:
        from aiogram.fsm.storage.pymongo import PyMongoStorage

        from chatsession.importers import aiogram_mongo

        old = PyMongoStorage.from_url(mongo_server.url)
        await old.set_state(ANNS, Form.age)
        await old.set_data(ANNS, {"name": "Ada"})
        await old.set_state(IN_GROUP, "alone")
        await old.set_data(StorageKey(42, 3, 3), {"when": datetime(2026, 1, 1, tzinfo=UTC)})
        report = await import_states(fsm, aiogram_mongo.entries(mongo_server.url), bot_id=42)
        assert (report.imported, report.failed) == (2, 1)
        assert '$.data["when"]' in report.failures[0][1]
        assert (await fsm.get_state(ANNS), await fsm.get_data(ANNS)) == ("Form:age", {"name": "Ada"})
        assert await fsm.get_state(IN_GROUP) == "alone"
        await old._client.drop_database("aiogram_fsm")
        await old.close()

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    async def test_a_server_that_does_not_answer(self, fsm: SessionFSMStorage) -> None:
        from chatsession.importers import aiogram_mongo

        url = f"mongodb://127.0.0.1:{free_ports(1)[0]}/?serverSelectionTimeoutMS=200"
        with pytest.raises(StorageUnavailableError):
            await import_states(fsm, aiogram_mongo.entries(url), bot_id=42)
        gc.collect()  # pymongo leaves the sockets open that could not be connected


class TestTelebot:
    records: dict[Any, Any] = {  # noqa: RUF012 - not changed
        "telebot:42:1:1": {"state": "Form:age", "data": {"name": "Ada"}},
        "telebot:42:b7:7:-100:1": {"state": None, "data": {"name": "Eve"}},
        "telebot:42:2:2": {"state": 5, "data": {}},
        "telebot:42:3:3": {"state": "x", "data": {"when": datetime(2026, 1, 1, tzinfo=UTC)}},
        "other:42:4:4": {"state": "x", "data": {}},
        "telebot:42:text": {"state": "x", "data": {}},
        7: {"state": "x", "data": {}},
    }

    async def test_its_pickle_moves_in(self, tmp_path: Path, states: SessionStateStorage) -> None:
        path = tmp_path / "states.pkl"
        path.write_bytes(pickle.dumps(self.records))
        report = await import_states(states, telebot_states.pickle_entries(path))
        assert (report.imported, report.failed) == (3, 4)
        assert await states.get_state(1, 1, bot_id=42) == "Form:age"
        assert await states.get_data(1, 1, bot_id=42) == {"name": "Ada"}
        assert await states.get_data(-100, 1, "b7", 7, bot_id=42) == {"name": "Eve"}
        assert await states.get_state(2, 2, bot_id=42) == "5"

    async def test_its_own_storage_wrote_the_pickle(self, tmp_path: Path, states: SessionStateStorage) -> None:
        from telebot.storage import StatePickleStorage

        old = StatePickleStorage(str(tmp_path / "states.pkl"))
        old.set_state(1, 1, "on", bot_id=42)
        old.set_data(1, 1, "x", {"y": [1]}, bot_id=42)
        report = await import_states(states, telebot_states.pickle_entries(tmp_path / "states.pkl"))
        assert (report.imported, report.failed) == (1, 0)
        assert await states.get_data(1, 1, bot_id=42) == {"x": {"y": [1]}}

    async def test_its_redis_moves_in(
        self, redis: Redis, redis_server: RedisServer, states: SessionStateStorage
    ) -> None:
        from telebot.storage import StateRedisStorage

        old = StateRedisStorage(redis_url=redis_server.url)
        await asyncio.to_thread(old.set_state, 1, 1, "on", bot_id=42)
        await asyncio.to_thread(old.set_data, 1, 1, "x", {"y": [1]}, bot_id=42)
        old.redis.connection_pool.disconnect()
        await redis.set("telebot:42:5:5", "a string, which is not what it writes")
        report = await import_states(states, telebot_states.redis_entries(redis_server.url))
        assert (report.imported, report.failed) == (1, 0)
        assert await states.get_state(1, 1, bot_id=42) == "on"
        assert await states.get_data(1, 1, bot_id=42) == {"x": {"y": [1]}}

    async def test_a_file_that_is_no_pickle(self, tmp_path: Path, states: SessionStateStorage) -> None:
        (tmp_path / "states.pkl").write_text("no pickle")
        with pytest.raises(SessionError, match=r"states\.pkl"):
            await import_states(states, telebot_states.pickle_entries(tmp_path / "states.pkl"))

    def test_by_the_command_line(self, tmp_path: Path) -> None:
        (tmp_path / "states.pkl").write_bytes(pickle.dumps(self.records))
        (tmp_path / "bot.py").write_text(
            "from chatsession.integrations.telebot import SessionStateStorage\n"
            'states = SessionStateStorage("sqlite:///bot.db")\n'
        )
        command = [
            sys.executable,
            "-m",
            "chatsession",
            "move-in",
            "bot:states",
            "telebot-pickle",
            "states.pkl",
            "--json",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        told = json.loads(done.stdout)
        assert (told["imported"], told["failed"]) == (3, 4), done.stderr

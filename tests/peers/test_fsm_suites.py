"""aiogram's own tests of FSM storages and isolations, and aiogram-dialog's own tests, on our FSM storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sdist import passed, unpacked

if TYPE_CHECKING:
    from tools.servers.postgres import PostgresServer
    from tools.servers.redis import RedisServer

AIOGRAM = """
import os

import pytest
from aiogram import Dispatcher
from aiogram.fsm.storage import memory
from aiogram.fsm.storage.base import StorageKey
from chatsession import MemoryStorage
from chatsession.integrations.aiogram import SessionFSMStorage
from tests.mocked_bot import MockedBot

CHAT_ID, USER_ID = -42, 42
memory.MemoryStorage = lambda: SessionFSMStorage(MemoryStorage())  # of the tests of scenes


@pytest.fixture
def bot():
    return MockedBot()


@pytest.fixture
def storage_key(bot):
    return StorageKey(chat_id=CHAT_ID, user_id=USER_ID, bot_id=bot.id)


def storage_at(name):
    @pytest.fixture(name=name)
    async def made(tmp_path):
        url = os.environ.get(name, f"sqlite:///{tmp_path}/bot.db" if name == "mongo_storage" else "memory:")
        storage = SessionFSMStorage(url, prefix=f"{tmp_path}:")
        yield storage
        await storage.close()

    return made


memory_storage = storage_at("memory_storage")
redis_storage = storage_at("redis_storage")
mongo_storage = storage_at("mongo_storage")
pymongo_storage = storage_at("pymongo_storage")


@pytest.fixture
def lock_isolation(memory_storage):
    return memory_storage.create_isolation()


@pytest.fixture
def redis_isolation(redis_storage):
    return redis_storage.create_isolation()


@pytest.fixture
def disabled_isolation(mongo_storage):
    return mongo_storage.create_isolation()


@pytest.fixture
def storage(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def isolation(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
async def dispatcher():
    dp = Dispatcher()
    await dp.emit_startup()
    yield dp
    await dp.emit_shutdown()
"""

AIOGRAM_DIALOG = """
from itertools import count

from aiogram import Dispatcher
from aiogram_dialog.api.entities import stack
from aiogram_dialog.test_tools import memory_storage
from chatsession import MemoryStorage
from chatsession.integrations.aiogram import SessionFSMStorage

made = Dispatcher.__init__


def with_isolation(self, *, storage=None, **options):
    isolation = storage.create_isolation() if isinstance(storage, SessionFSMStorage) else None
    made(self, storage=storage, events_isolation=isolation, **options)


Dispatcher.__init__ = with_isolation
memory_storage.JsonMemoryStorage = lambda: SessionFSMStorage(MemoryStorage())
stack.new_int_id = count(10**9).__next__  # by chance, it gives one in a hundred ids of the same second twice
"""


def test_aiograms_tests_of_storages_isolations_and_scenes(
    tmp_path: Path, redis_server: RedisServer, postgres_server: PostgresServer
) -> None:
    root = unpacked("aiogram", tmp_path, "tests/__init__.py", "tests/mocked_bot.py", "tests/test_fsm")
    servers = {"redis_storage": redis_server.url, "pymongo_storage": postgres_server.url}
    storage = root / "tests/test_fsm/storage"
    suites = [f"{storage}/test_storages.py", f"{storage}/test_isolation.py::TestIsolations"]
    # Four storages with three tests each, three isolations with one; most of the others are about scenes.
    assert passed(root, AIOGRAM, *suites, **servers) == 15
    assert passed(root, AIOGRAM, f"{root}/tests/test_fsm/test_scene.py") > 50


def test_aiogram_dialogs_tests(tmp_path: Path) -> None:
    root = unpacked("aiogram_dialog", tmp_path, "tests")
    assert passed(root, AIOGRAM_DIALOG, "tests") > 50

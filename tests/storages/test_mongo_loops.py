"""MongoDB: a storage in a second event loop and in forked processes."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings

import pytest
from pymongo import AsyncMongoClient

from chatsession.errors import StorageError
from chatsession.storages.mongo import MongoStorage
from chatsession.testing.conformance.single import lock, put, unlock, value_of
from tools.servers.mongo import MongoServer


def open_sockets() -> int:
    links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    return sum("socket" in link for link in links)


async def use(storage: MongoStorage, key: str) -> None:
    assert not storage.is_open
    await storage.open()
    await put(storage, key, key.encode())
    await unlock(storage, (await lock(storage, key)).lease)
    assert await value_of(storage, key) == key.encode()


def test_a_forgotten_storage_serves_another_loop(mongo_server: MongoServer) -> None:
    storage = MongoStorage(mongo_server.url, collection="loops")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # pymongo cannot close a client whose event loop is closed
        for name in ("first", "second", "third"):
            asyncio.run(asyncio.wait_for(use(storage, name), 30))
            storage.forget(inherited=False)
            sockets = open_sockets()
        gc.collect()
    assert open_sockets() < sockets, "a dropped client leaves no socket"


def test_a_forked_child_and_its_parent_both_go_on(mongo_server: MongoServer) -> None:
    storage = MongoStorage(mongo_server.url, collection="forks")
    with asyncio.Runner() as runner:
        runner.run(use(storage, "parent"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # this process may have threads
            child = os.fork()
        if child == 0:
            status = 1
            try:
                asyncio.events._set_running_loop(None)
                storage.forget(inherited=True)
                asyncio.run(asyncio.wait_for(use(storage, "child"), 30))
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert runner.run(value_of(storage, "child")) == b"child"
        assert runner.run(value_of(storage, "parent")) == b"parent"
        runner.run(storage.close())


def test_a_client_of_another_loop_is_a_clear_error(mongo_server: MongoServer) -> None:
    with asyncio.Runner() as runner:

        async def connect() -> AsyncMongoClient[dict[str, object]]:
            client = AsyncMongoClient[dict[str, object]](mongo_server.url)
            await client.admin.command("ping")
            return client

        client = runner.run(connect())
        storage = MongoStorage(client=client, database="bot")

        async def refused() -> None:
            with pytest.raises(StorageError, match="another event loop"):
                await storage.open()

        asyncio.run(refused())
        runner.run(client.close())

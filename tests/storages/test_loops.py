"""NATS and MongoDB in a second event loop and in forked processes."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Iterator

import pytest
from nats.aio.client import Client
from pymongo import AsyncMongoClient

from chatsession.errors import StorageError
from chatsession.storages import Storage
from chatsession.storages.mongo import MongoStorage
from chatsession.storages.nats import NatsStorage
from chatsession.testing.conformance.single import lock, put, unlock, value_of
from in_a_child import in_child
from tools.servers.mongo import MongoServer
from tools.servers.nats import NatsServer


@pytest.fixture(params=["nats", "mongo"])
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    server: NatsServer | MongoServer = request.getfixturevalue(f"{request.param}_server")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # pymongo cannot close a client whose event loop is closed
        if isinstance(server, NatsServer):
            yield NatsStorage(server.url, bucket="loops")
        else:
            yield MongoStorage(server.url, collection="loops")
        gc.collect()


def open_sockets() -> int:
    links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    return sum("socket" in link for link in links)


async def use(storage: Storage, key: str) -> None:
    assert not storage.is_open
    await storage.open()
    await put(storage, key, key.encode())
    await unlock(storage, (await lock(storage, key)).lease)
    assert await value_of(storage, key) == key.encode()


def test_a_forgotten_storage_serves_another_loop(storage: Storage) -> None:
    sockets = 0
    for name in ("first", "second", "third"):
        asyncio.run(asyncio.wait_for(use(storage, name), 30))
        used = open_sockets()
        storage.forget(inherited=False)
        gc.collect()
        sockets = sockets or open_sockets()
        assert open_sockets() <= sockets < used, "a dropped client leaves no socket"


def test_a_forked_child_and_its_parent_both_go_on(storage: Storage) -> None:
    def use_in_child() -> None:
        asyncio.events._set_running_loop(None)
        storage.forget(inherited=True)
        asyncio.run(asyncio.wait_for(use(storage, "child"), 30))

    with asyncio.Runner() as runner:
        runner.run(use(storage, "parent"))
        in_child(use_in_child)
        assert runner.run(value_of(storage, "child")) == b"child"
        assert runner.run(value_of(storage, "parent")) == b"parent"
        runner.run(storage.close())


async def _is_refused(storage: Storage) -> None:
    with pytest.raises(StorageError, match="another event loop"):
        await storage.open()


def test_a_nats_client_of_another_loop_is_refused(nats_server: NatsServer) -> None:
    client = Client()
    storage = NatsStorage(client)
    with asyncio.Runner() as runner:
        runner.run(client.connect(nats_server.url))
        asyncio.run(_is_refused(storage))
        runner.run(client.close())


def test_a_mongo_client_of_another_loop_is_refused(mongo_server: MongoServer) -> None:
    async def connect() -> AsyncMongoClient[dict[str, object]]:
        client = AsyncMongoClient[dict[str, object]](mongo_server.url)
        await client.admin.command("ping")
        return client

    with asyncio.Runner() as runner:
        client = runner.run(connect())
        asyncio.run(_is_refused(MongoStorage(client=client, database="bot")))
        runner.run(client.close())

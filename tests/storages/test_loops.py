"""NATS: a storage in a second event loop and in forked processes, and a clock that is set."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import Iterator

import pytest
from nats.aio.client import Client

from chatsession.errors import StorageError
from chatsession.storages import Action, Change, Committed
from chatsession.storages.nats import NatsStorage
from chatsession.storages.nats._calls import Request
from chatsession.testing.conformance.single import lock, put, unlock, value_of
from tools.servers.nats import NatsServer


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


async def use(storage: NatsStorage, key: str) -> None:
    assert not storage.is_open
    await storage.open()
    await put(storage, key, key.encode())
    await unlock(storage, (await lock(storage, key)).lease)
    assert await value_of(storage, key) == key.encode()


def test_a_forgotten_storage_serves_another_loop(server: NatsServer) -> None:
    storage = NatsStorage(server.url)
    for name in ("first", "second", "third"):
        asyncio.run(asyncio.wait_for(use(storage, name), 30))
        storage.forget(inherited=False)


def test_a_forked_child_and_its_parent_both_go_on(server: NatsServer) -> None:
    storage = NatsStorage(server.url)
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


def test_a_client_of_another_loop_is_a_clear_error(server: NatsServer) -> None:
    client = Client()
    storage = NatsStorage(client)
    with asyncio.Runner() as runner:
        runner.run(client.connect(server.url))

        async def refused() -> None:
            with pytest.raises(StorageError, match="another event loop"):
                await storage.open()

        asyncio.run(refused())
        runner.run(client.close())


@pytest.mark.parametrize("hours", [-2, 2])
async def test_a_clock_that_is_set_ends_no_session(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    real = time.time
    async with NatsStorage(server.url) as storage:
        await put(storage, "424242", b"1", ttl=60)
        monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
        assert await value_of(storage, "424242") == b"1"
        assert abs(storage.now() - real()) < 60


async def test_a_message_too_large_costs_its_own_key_only(server: NatsServer) -> None:
    async with NatsStorage(server.url, retry_for=5) as storage:
        assert storage._entries is not None
        calls = storage._entries.calls
        headers = {"Long": "x" * 600_000}
        bad = Request("$KV.sessions.bad", b"x" * 600_000, headers)
        found = await calls.ask_all([bad, Request("$JS.API.INFO")])
        assert isinstance(found[0], StorageError)
        assert not isinstance(found[1], StorageError)
        assert isinstance((await storage.commit_many([Change("good", Action.PUT, b"1")]))[0], Committed)

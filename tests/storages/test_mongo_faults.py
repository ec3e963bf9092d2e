"""MongoDB whose connections break, whose primary dies or falls silent: nothing is lost, and others take over."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import pytest
from _mongo_proxy import MongoProxy
from pymongo import AsyncMongoClient, MongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from chatsession import SessionManager
from chatsession.errors import SessionConflictError, StorageUnavailableError
from chatsession.storages import Action, Change, Committed, Record
from chatsession.storages.mongo import MongoStorage
from chatsession.testing.conformance.single import commit, lock, put, scan_all_keys, unlock, value_of
from tools.servers.mongo import MongoReplicaSet, MongoServer

_collections = (f"faults_{number}" for number in count())


@pytest.fixture
def collection() -> str:
    return next(_collections)


@pytest.fixture(scope="module")
def standalone() -> Iterator[MongoServer]:
    with MongoServer() as server:
        yield server


@pytest.fixture(scope="module")
def replicas() -> Iterator[MongoReplicaSet]:
    with MongoReplicaSet() as servers:
        yield servers


@pytest.fixture(params=["replica set", "standalone"])
async def proxy(request: pytest.FixtureRequest) -> AsyncIterator[MongoProxy]:
    name = "mongo_server" if request.param == "replica set" else "standalone"
    async with MongoProxy(request.getfixturevalue(name).port) as proxy:
        yield proxy


def is_held(proxy: MongoProxy, collection: str) -> bool:
    with MongoClient[dict[str, Any]](proxy.direct_url) as client:
        query = {"$expr": {"$gt": ["$lock.until", "$$NOW"]}}
        return client.bot[collection].count_documents(query) > 0


def add_one(count: int) -> int:
    return count + 1


async def test_a_lock_whose_answer_was_lost_is_taken_again(proxy: MongoProxy, collection: str) -> None:
    async with MongoStorage(proxy.url, collection=collection) as storage:
        proxy.cut_after = b"findAndModify"
        held = await lock(storage, "chat")
        assert proxy.was_cut.is_set()
        change = Change("chat", Action.PUT, b"1", None, lease=held.lease, unlock=True)
        assert isinstance(await commit(storage, change), Committed)


@pytest.mark.parametrize("ttl", [3600, 0.001])
async def test_a_retry_by_pymongo_itself_reads_the_same(proxy: MongoProxy, collection: str, ttl: float) -> None:
    """The server answers such a retry with the whole document, as it was, and without its time."""
    url = f"{proxy.url}&retryWrites=true"
    async with MongoStorage(url, collection=collection) as storage:
        await put(storage, "chat", b"1", ttl=ttl)
        while ttl < 1 and await value_of(storage, "chat") is not None:
            pass
        proxy.cut_after = b"findAndModify"
        held = await lock(storage, "chat")
        assert proxy.was_cut.is_set()
        assert (held.record is not None and held.record.value) == (ttl > 1 and b"1")
        proxy.was_cut.clear()
        proxy.cut_after = b"findAndModify"
        kept = await commit(storage, Change("chat", Action.KEEP, lease=held.lease, unlock=True))
        assert proxy.was_cut.is_set()
        assert kept == Committed(held.record and held.record.version)


@pytest.mark.parametrize("size", [1, 5])
async def test_a_commit_whose_answer_was_lost_is_made_once(proxy: MongoProxy, collection: str, size: int) -> None:
    async with (
        MongoStorage(proxy.url, collection=collection) as storage,
        SessionManager(int, storage=storage) as sessions,
    ):
        keys = [f"chat-{number}" for number in range(size)]
        for key in keys:
            await sessions.put(key, 7)
        proxy.cut_after = b"commits"
        await asyncio.gather(*(sessions.update(key, add_one) for key in keys))
        assert proxy.was_cut.is_set()
        assert [await sessions.get(key) for key in keys] == [8] * size


async def test_a_commit_that_arrives_late_is_not_called_refused(proxy: MongoProxy, collection: str) -> None:
    """Its lease is over when it is tried again, but nobody has taken the key: the first try may still come."""
    async with MongoStorage(proxy.url, collection=collection, retry_for=60) as storage:
        version = await put(storage, "chat", b"1")
        held = await lock(storage, "chat", 0.5)
        proxy.hold_back = b"commits"
        proxy.shut()
        committing = asyncio.create_task(
            commit(storage, Change("chat", Action.PUT, b"2", version, lease=held.lease, unlock=True))
        )
        await proxy.was_cut.wait()
        while await asyncio.to_thread(is_held, proxy, collection):
            pass
        await proxy.open()
        outcome = await committing
        await proxy.deliver()
        assert isinstance(outcome, Committed)
        assert await value_of(storage, "chat") == b"2"
        assert (await lock(storage, "chat")).record == Record(b"2", outcome.version)


async def test_a_commit_that_no_majority_has_yet_is_not_called_refused(
    replicas: MongoReplicaSet, collection: str
) -> None:
    primary = await asyncio.to_thread(replicas.primary)
    others = [server for server in replicas.servers if server is not primary]
    async with (
        MongoProxy(primary.port) as proxy,
        MongoStorage(proxy.url, collection=collection, retry_for=120) as storage,
    ):
        version = await put(storage, "chat", b"1")
        held = await lock(storage, "chat", 0.5)
        while await asyncio.to_thread(is_held, proxy, collection):
            pass
        proxy.hold_back = b"commits"
        proxy.shut()
        try:
            for server in others:
                server.process.signal(signal.SIGSTOP)
            committing = asyncio.create_task(
                commit(storage, Change("chat", Action.PUT, b"2", version, lease=held.lease, unlock=True))
            )
            await proxy.was_cut.wait()
            await proxy.deliver()
            proxy.passed_on.clear()
            await proxy.open()
            await proxy.passed_on.wait()
        finally:
            for server in others:
                server.process.signal(signal.SIGCONT)
        outcome = await committing
        await asyncio.to_thread(replicas.all_follow)
        stored = await value_of(storage, "chat")
        assert (type(outcome), stored) == (Committed, b"2")


async def test_a_commit_behind_many_others_is_not_called_refused(
    proxy: MongoProxy, collection: str, mongo_server: MongoServer
) -> None:
    async with MongoStorage(proxy.url, collection=collection, retry_for=60) as storage:
        version = await put(storage, "chat", b"1")
        held = await lock(storage, "chat")
        proxy.cut_after = b"commits"
        proxy.shut()
        change = Change("chat", Action.PUT, b"2", version, lease=held.lease, unlock=True)
        committing = asyncio.create_task(commit(storage, change))
        await proxy.was_cut.wait()
        async with MongoStorage(proxy.direct_url, collection=collection) as other:
            for _ in range(10):
                assert await put(other, "chat", b"3")
        await proxy.open()
        outcome = await committing
        assert isinstance(outcome, StorageUnavailableError)
        assert "session 'chat': " in str(outcome)
        assert "not known whether the change was made" in str(outcome)


async def test_a_commit_beside_one_that_is_refused_is_not_called_refused(proxy: MongoProxy, collection: str) -> None:
    """Of a batch, the server only tells how many it made; which, is read, and others may have written by then."""
    async with (
        MongoStorage(proxy.url, collection=collection, retry_for=60) as storage,
        MongoStorage(proxy.direct_url, collection=collection) as other,
    ):
        changes: list[Change] = []
        for key in ("made", "refused"):
            version = await put(storage, key, b"1")
            held = await lock(storage, key)
            changes.append(Change(key, Action.PUT, b"2", version, lease=held.lease, unlock=True))
        await commit(other, Change("refused", Action.DELETE))
        proxy.cut_before = b"\x02find\0"
        proxy.shut()
        committing = asyncio.create_task(storage.commit_many(changes))
        await proxy.was_cut.wait()
        for _ in range(10):
            assert await put(other, "made", b"3")
        await proxy.open()
        made, refused = await committing
        assert isinstance(made, StorageUnavailableError)
        assert not isinstance(refused, Committed)


async def test_connections_that_a_firewall_forgot_are_noticed(proxy: MongoProxy, collection: str) -> None:
    async with (
        MongoStorage(proxy.url, collection=collection, retry_for=60) as storage,
        SessionManager(int, storage=storage) as sessions,
    ):
        await sessions.put("chat", 1)
        proxy.blackhole()
        await asyncio.wait_for(sessions.update("chat", add_one), 50)
        assert await sessions.get("chat") == 2


async def test_a_server_that_is_killed_and_started(standalone: MongoServer, collection: str) -> None:
    async with (
        MongoStorage(standalone.url, collection=collection, retry_for=60) as storage,
        SessionManager(int, storage=storage) as sessions,
    ):
        await asyncio.gather(*(sessions.update(f"chat-{number}", add_one) for number in range(20)))
        standalone.process.kill()
        updates = asyncio.gather(*(sessions.update(f"chat-{number}", add_one) for number in range(20)))
        await asyncio.to_thread(standalone.start)
        await updates
        assert [await sessions.get(f"chat-{number}") for number in range(20)] == [2] * 20


async def test_a_server_that_stays_away_is_an_error_in_time(standalone: MongoServer, collection: str) -> None:
    async with MongoStorage(standalone.url, collection=collection, retry_for=1) as storage:
        await put(storage, "chat", b"1")
        standalone.process.signal(signal.SIGSTOP)
        try:
            with pytest.raises(StorageUnavailableError):
                await asyncio.wait_for(storage.read_many(["chat"]), 60)
        finally:
            standalone.process.signal(signal.SIGCONT)
        assert await value_of(storage, "chat") == b"1"


@pytest.mark.parametrize("how", ["killed", "frozen", "told to step down"])
async def test_another_server_takes_over(replicas: MongoReplicaSet, collection: str, how: str) -> None:
    done = 0
    async with (
        MongoStorage(replicas.url, collection=collection, retry_for=120) as storage,
        SessionManager(int, storage=storage, lock_timeout=None) as sessions,
    ):
        await sessions.update("chat", add_one)
        old = await asyncio.to_thread(replicas.primary)

        async def count_up() -> None:
            nonlocal done
            for _ in range(10):
                try:
                    await sessions.update("chat", add_one)
                except SessionConflictError:
                    continue
                done += 1

        counting = [asyncio.create_task(count_up()) for _ in range(5)]
        if how == "killed":
            old.process.kill()
        elif how == "frozen":
            old.process.signal(signal.SIGSTOP)
        else:
            await asyncio.to_thread(replicas.step_down)
        try:
            await asyncio.wait_for(asyncio.gather(*counting), 240)
            assert await sessions.get("chat") == 1 + done
            assert done >= 40
        finally:
            if how == "killed":
                await asyncio.to_thread(old.start)
            old.process.signal(signal.SIGCONT)
            await asyncio.to_thread(replicas.all_follow)


class LinearizableReads(CommandListener):
    """Counts the reads that wait for a majority."""

    count = 0

    def started(self, event: CommandStartedEvent) -> None:
        self.count += event.command.get("readConcern", {}).get("level") == "linearizable"

    def succeeded(self, event: object) -> None: ...

    def failed(self, event: object) -> None: ...


async def test_the_first_read_from_a_new_primary_waits_for_a_majority(
    mongo_server: MongoServer, collection: str
) -> None:
    """Unless the user chose that commits do not wait for one either."""
    waits, hurries = LinearizableReads(), LinearizableReads()
    url = mongo_server.url
    async with (
        AsyncMongoClient[dict[str, Any]](url, event_listeners=[waits]) as durable,
        AsyncMongoClient[dict[str, Any]](url, w=1, event_listeners=[hurries]) as hasty,
        MongoStorage(client=durable, database="bot", collection=collection) as storage,
        MongoStorage(client=hasty, database="bot", collection=collection) as other,
    ):
        for expected in (1, 2):
            await put(storage, "chat", b"1")
            for each in (storage, other):
                assert await value_of(each, "chat") == b"1"
                assert await scan_all_keys(each) == ["chat"]
            assert (waits.count, hurries.count) == (expected, 0)
            if expected == 1:
                await asyncio.to_thread(mongo_server.command, {"replSetStepDown": 1, "force": True})


async def test_without_a_primary_a_commit_is_an_error(replicas: MongoReplicaSet, collection: str) -> None:
    primary = await asyncio.to_thread(replicas.primary)
    others = [server for server in replicas.servers if server is not primary]
    async with MongoStorage(replicas.url, collection=collection, retry_for=3) as storage:
        for server in others:
            server.process.kill()
        try:
            with pytest.raises(StorageUnavailableError):
                await commit(storage, Change("chat", Action.PUT, b"1"))
        finally:
            for server in others:
                await asyncio.to_thread(server.start)
            await asyncio.to_thread(replicas.all_follow)


async def test_a_free_key_is_locked_at_once_though_the_clock_is_behind(
    mongo_server: MongoServer, collection: str
) -> None:
    """Processes estimate the server's time, some milliseconds apart on a busy machine."""
    async with (
        MongoStorage(mongo_server.url, collection=collection) as ahead,
        MongoStorage(mongo_server.url, collection=collection) as behind,
    ):
        await unlock(ahead, (first := await lock(ahead, "chat")).lease)
        behind._clock.set(behind.now() - 0.5, time.monotonic())
        second = await lock(behind, "chat")
        assert second.lease.token > first.lease.token

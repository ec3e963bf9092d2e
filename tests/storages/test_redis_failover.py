"""Primaries that die under load, and slots that move: nothing acknowledged is lost, nothing is made twice."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from _redis_proxy import RedisProxy

from chatsession import SessionManager
from chatsession.errors import SessionConflictError, StorageUnavailableError
from chatsession.storages import Locked
from chatsession.storages.redis import RedisStorage
from chatsession.storages.redis._names import slot_of
from chatsession.testing.conformance.single import put, request, scan_all_keys, unlock, value_of
from tools.servers._process import wait_until
from tools.servers.redis import SERVICE, RedisCluster, RedisSentinel, RedisServer

CHATS = [f"chat:{number}" for number in range(60)]
PATIENT = 120.0
"""Seconds; longer than any failover, also on a busy machine."""


class Load:
    """Counts in many chats at once for as long as it is wanted, and knows what was acknowledged."""

    def __init__(self, sessions: SessionManager[int]) -> None:
        self._sessions = sessions
        self._going = True
        self.acknowledged: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self._rounds = asyncio.Event()

    async def _count(self, chat: str) -> None:
        while self._going:
            try:
                async with self._sessions.open(chat) as session:
                    session.data += 1
            except StorageUnavailableError:
                self.unknown[chat] += 1
            except SessionConflictError:
                pass  # its lock was not replicated, or ran out meanwhile: nothing was written, as `check` finds out
            else:
                self.acknowledged[chat] += 1
                self._rounds.set()

    async def progress(self, updates: int) -> None:
        """Return when so many more were acknowledged in each chat."""
        aim = {chat: self.acknowledged[chat] + updates for chat in CHATS}
        async with asyncio.timeout(180):
            while any(self.acknowledged[chat] < wanted for chat, wanted in aim.items()):
                self._rounds.clear()
                await self._rounds.wait()

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._count(chat)) for chat in CHATS]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._going = False
        await asyncio.gather(*self._tasks)

    async def check(self) -> None:
        """Every acknowledged update is there, and none of the others twice; of those that were refused, none."""
        for chat in CHATS:
            stored = await self._sessions.get(chat)
            assert stored is not None
            assert self.acknowledged[chat] <= stored <= self.acknowledged[chat] + self.unknown[chat], chat


@asynccontextmanager
async def load_on(url: str, retry_for: float) -> AsyncGenerator[Load]:
    storage = RedisStorage(url, wait_replicas=1, retry_for=retry_for)
    async with SessionManager(int, storage=storage, lock_timeout=180, lock_lease=3) as sessions:
        async with Load(sessions) as load:
            yield load
        storage._calls.retry_for = PATIENT  # what is checked is what was stored
        await load.check()


async def happened(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what)


@pytest.mark.parametrize("retry_for", [PATIENT, 0.5])
async def test_sentinels_replace_the_primary_under_load(retry_for: float) -> None:
    with RedisSentinel(replicas=2, password="secret") as sentinel:
        async with load_on(sentinel.url, retry_for) as load:
            await load.progress(20)
            old = sentinel.primary
            old.process.kill()
            await happened(lambda: sentinel.primary is not old, "a new primary")
            await load.progress(20)
        assert bool(load.unknown) == (retry_for < 1)


@pytest.mark.parametrize("retry_for", [PATIENT, 0.3])
async def test_a_cluster_loses_a_primary_under_load(retry_for: float) -> None:
    with RedisCluster(password="secret") as cluster:
        async with load_on(cluster.url, retry_for) as load:
            await load.progress(20)
            old = cluster.primaries()[0]
            old.process.kill()
            await happened(lambda: len(cluster.primaries()) == 3, "a new primary")
            await asyncio.to_thread(old.start)  # as a replica, which the commits wait for
            await load.progress(20)
        assert bool(load.unknown) == (retry_for < 1)


async def test_waiters_are_still_woken_after_a_failover() -> None:
    with RedisSentinel() as sentinel:
        async with (
            RedisStorage(sentinel.url, retry_for=PATIENT) as holder,
            RedisStorage(sentinel.url, retry_for=PATIENT) as other,
        ):
            await _wake(holder, other)
            old = sentinel.primary
            old.process.kill()
            await happened(lambda: sentinel.primary is not old, "a new primary")
            await _wake(holder, other)


async def _wake(holder: RedisStorage, other: RedisStorage) -> None:
    (held,) = await holder.lock_many([request("424242")])
    assert isinstance(held, Locked)
    wish = request("424242")
    assert await other.lock_many([wish]) == [None]
    await unlock(holder, held.lease)
    async with asyncio.timeout(60):
        attempt = 0
        while (granted := (await other.lock_many([wish]))[0]) is None:
            await other.wait_unlocked(wish, attempt)
            attempt += 1
    assert isinstance(granted, Locked)
    await unlock(other, granted.lease)


async def test_a_sentinel_that_was_down_is_asked_again(redis_sentinel: RedisSentinel) -> None:
    first, second = (RedisProxy(port) for port in redis_sentinel.sentinel_ports[:2])
    storage = RedisStorage(
        f"redis+sentinel://127.0.0.1:{first.port},127.0.0.1:{second.port}/{SERVICE}", retry_for=PATIENT
    )
    async with first:
        await storage.open()
    async with second:
        await asyncio.gather(*(put(storage, f"asked:{number}", b"1") for number in range(8)))
    redis_sentinel.primary.ask("CLIENT", "KILL", "TYPE", "normal")
    async with first:
        await put(storage, "asked:again", b"2")
        await storage.close()


async def test_a_silent_sentinel_is_passed_over(redis_sentinel: RedisSentinel) -> None:
    second = redis_sentinel.sentinel_ports[1]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis+sentinel://127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{second}/{SERVICE}"
        async with RedisStorage(url, retry_for=PATIENT) as storage, asyncio.timeout(PATIENT / 2):
            await put(storage, "passed over", b"1")


async def test_a_frozen_shard_holds_up_its_own_chats_only() -> None:
    with RedisCluster(down_after=600) as cluster:
        storage = RedisStorage(cluster.url, retry_for=PATIENT)
        async with SessionManager(int, storage=storage, lock_timeout=PATIENT, lock_lease=PATIENT) as sessions:

            async def count(chat: str) -> int:
                return await sessions.update(chat, lambda value: value + 1)

            await asyncio.gather(*map(count, CHATS))
            frozen = cluster.primaries()[0]
            theirs = [chat for chat in CHATS if storage.lane_of(chat).endswith(f":{frozen.port}")]
            others = [chat for chat in CHATS if chat not in theirs]
            assert theirs
            assert len(others) > len(theirs)
            frozen.process.signal(signal.SIGSTOP)
            stuck: list[asyncio.Task[int]] = []
            for chat in theirs[:8]:  # in batches of their own, more than may be under way
                stuck.append(asyncio.create_task(count(chat)))
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENT / 2):
                for number in range(2, 7):
                    assert set(await asyncio.gather(*map(count, others))) == {number}
            assert not any(task.done() for task in stuck)
            frozen.process.signal(signal.SIGCONT)
            assert set(await asyncio.gather(*stuck)) == {2}


async def test_slots_that_move_while_they_are_used() -> None:
    with RedisCluster(down_after=60) as cluster:
        async with RedisStorage(cluster.url) as storage:
            name = "{moving}:chat"
            slot = slot_of(name.encode())
            source = next(each for each in cluster.primaries() if _has(each, slot))
            target = next(each for each in cluster.primaries() if each is not source)
            names = {each: each.ask("CLUSTER", "MYID") for each in (source, target)}
            await put(storage, name, b"1")

            target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
            source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
            # What is still there is read there; what is not, at the server that it is moving to (ASK). A script that
            # needs several keys is only run by a server that has all of them, and so waits for the end (TRYAGAIN).
            assert await value_of(storage, name) == b"1"
            assert await value_of(storage, "{moving}:other") is None
            putting = asyncio.create_task(put(storage, "{moving}:other", b"2"))
            await happened(lambda: _refused(source) or _refused(target), "a refused commit")

            for key in source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100).split():
                source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 60_000)
            for each in (target, source):
                each.ask("CLUSTER", "SETSLOT", slot, "NODE", names[target])
            await putting
            assert await value_of(storage, name) == b"1"  # MOVED
            await put(storage, name, b"3")
            assert target.ask("GET", name) == "3"
            assert sorted(await scan_all_keys(storage, "{moving}")) == [name, "{moving}:other"]


def _refused(server: RedisServer) -> bool:
    """Was a script called here that could not be run yet?"""
    return server.says("errorstat_TRYAGAIN", "INFO", "errorstats")


def _has(server: RedisServer, slot: int) -> bool:
    slots = server.ask("CLUSTER", "SLOTS").split("\n")
    me = str(server.port)
    starts = [
        n for n, line in enumerate(slots) if line.isdecimal() and n + 3 < len(slots) and slots[n + 2] == "127.0.0.1"
    ]
    return any(int(slots[n]) <= slot <= int(slots[n + 1]) and slots[n + 3] == me for n in starts)

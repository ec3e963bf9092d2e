"""What goes to Redis and back: as seldom as promised, and plain to see for others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from _redis_proxy import RedisProxy

from chatsession import LazySessionFlavor, SessionManager, lazy_session
from chatsession.storages import Action, Change, Committed
from chatsession.storages.redis import RedisStorage
from chatsession.testing.conformance.single import lock, put, request, try_lock, unlock
from tools.servers.redis import RedisServer


@dataclass
class Pizza:
    count: int = 0


@pytest.fixture
def server(redis_or_valkey: RedisServer) -> RedisServer:
    return redis_or_valkey


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[RedisProxy]:
    async with RedisProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def storage(server: RedisServer) -> AsyncIterator[RedisStorage]:
    async with RedisStorage(server.url) as storage:
        yield storage


async def _warm(sessions: SessionManager[Pizza]) -> None:
    """The first calls connect and load the scripts."""
    await sessions.update("warm", lambda pizza: pizza)
    async with sessions.open("warm") as session:
        session.data.count += 1
    await sessions.get("warm")


def calls(server: RedisServer, command: str) -> int:
    for line in server.ask("INFO", "commandstats").splitlines():
        if line.startswith(f"cmdstat_{command}:calls="):
            return int(line.partition("=")[2].partition(",")[0])
    return 0


async def test_an_update_is_two_round_trips(proxy: RedisProxy, server: RedisServer) -> None:
    async with SessionManager(Pizza, storage=RedisStorage(proxy.url)) as sessions:
        await _warm(sessions)
        for change in (1, 0):
            server.ask("CONFIG", "RESETSTAT")
            proxy.round_trips = 0
            async with sessions.open("424242") as session:
                session.data.count += change
            assert proxy.round_trips == 2, "lock and read, commit and unlock"
            assert calls(server, "evalsha") == 2


async def test_a_lazy_session_that_nobody_touches_costs_nothing(proxy: RedisProxy) -> None:
    class Context(LazySessionFlavor[Pizza]):
        pass

    storage = RedisStorage(proxy.url)
    async with storage:
        middleware = lazy_session(Pizza, storage=storage, get_session_key=lambda _: "424242")
        before = proxy.round_trips

        async def following() -> None:
            return None

        await middleware(Context(), following)
        assert proxy.round_trips == before


async def test_concurrent_calls_travel_together(proxy: RedisProxy) -> None:
    async with SessionManager(Pizza, storage=RedisStorage(proxy.url)) as sessions:
        await _warm(sessions)
        proxy.round_trips = 0

        async def update(number: int) -> None:
            async with sessions.open(f"chat:{number}") as session:
                session.data.count += 1

        await asyncio.gather(*map(update, range(90)))
        assert proxy.round_trips <= 8
        assert proxy.connections <= 5


async def test_many_callers_share_few_connections(proxy: RedisProxy) -> None:
    async with RedisStorage(proxy.url) as storage:
        await asyncio.gather(*(storage.read_many([f"chat:{number}"]) for number in range(300)))
        assert proxy.connections <= 8


async def test_a_session_is_a_plain_string_with_the_expiry_of_redis(server: RedisServer) -> None:
    async with SessionManager(Pizza, storage=RedisStorage(server.url), ttl=1000) as sessions:
        async with sessions.open("424242") as session:
            session.data.count = 3
        assert server.ask("GET", "424242") == '{"count":3}'
        assert 990_000 < int(server.ask("PTTL", "424242")) <= 1_000_000


async def test_a_look_counts_the_time_to_live_anew_and_writes_nothing(server: RedisServer) -> None:
    async with SessionManager(Pizza, storage=RedisStorage(server.url), ttl=1000) as sessions:
        await _warm(sessions)
        server.ask("PEXPIRE", "warm", 500_000)
        server.ask("CONFIG", "RESETSTAT")
        async with sessions.open("warm") as session:
            assert session.data.count == 1
        assert calls(server, "pexpire") == 1
        assert calls(server, "set") == 2, "the lock, and what became of the commit"
        assert 990_000 < int(server.ask("PTTL", "warm")) <= 1_000_000


async def test_a_write_by_another_redis_client_counts_as_a_change(storage: RedisStorage, server: RedisServer) -> None:
    await put(storage, "424242", b'{"count":1}')
    locked = await lock(storage, "424242")
    server.ask("SET", "424242", '{"count":7}')
    change = Change("424242", Action.PUT, b'{"count":2}', locked.record and locked.record.version, lease=locked.lease)
    (outcome,) = await storage.commit_many([change])
    assert not isinstance(outcome, Committed)
    assert server.ask("GET", "424242") == '{"count":7}'


async def test_a_waiter_is_woken_and_does_not_poll(server: RedisServer) -> None:
    async with RedisStorage(server.url) as holder, RedisStorage(server.url) as waiter:
        await lock(holder, "another")
        first = request("another")
        assert await try_lock(waiter, first) is None  # the first waiter starts the listener
        while "!chatsession:wake" not in server.ask("PUBSUB", "CHANNELS"):
            await waiter.wait_unlocked(first, 0)
            assert await try_lock(waiter, first) is None
        for _ in range(20):
            server.ask("CONFIG", "RESETSTAT")
            held = await lock(holder, "424242")
            wish = request("424242")
            assert await try_lock(waiter, wish) is None
            waiting = asyncio.create_task(waiter.wait_unlocked(wish, 0))
            await asyncio.sleep(0)
            await unlock(holder, held.lease)
            await waiting
            assert calls(server, "evalsha") == 3, "lock, wait, unlock"
            assert calls(server, "publish") == 1
            granted = await try_lock(waiter, wish)
            assert granted is not None
            await unlock(waiter, granted.lease)


async def test_a_lost_wake_up_costs_no_more_than_a_moment(server: RedisServer) -> None:
    async with RedisStorage(server.url) as holder, RedisStorage(server.url) as waiter:
        held = await lock(holder, "424242")
        wish = request("424242")
        assert await try_lock(waiter, wish) is None
        while "!chatsession:wake" not in server.ask("PUBSUB", "CHANNELS"):
            await waiter.wait_unlocked(wish, 0)
            assert await try_lock(waiter, wish) is None
        server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await unlock(holder, held.lease)
        async with asyncio.timeout(60):
            for attempt in range(1_000):
                await waiter.wait_unlocked(wish, attempt)
                if await try_lock(waiter, wish) is not None:
                    break


async def test_nothing_is_left_of_a_lock_but_what_runs_out(storage: RedisStorage, server: RedisServer) -> None:
    await put(storage, "424242", b"1")
    locked = await lock(storage, "424242")
    await unlock(storage, locked.lease)
    left = set(server.ask("KEYS", "*").split()) - {"424242"}
    assert left, "what became of the commits is remembered for a while"
    assert all(key.startswith("!chatsession:done:") for key in left)
    assert all(0 < int(server.ask("PTTL", key)) <= 60_000 for key in left)

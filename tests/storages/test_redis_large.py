"""Large values: Redis compares them with a copy that lasts as long as the lease, and notices every write of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from chatsession import SessionConflictError, SessionManager
from chatsession.storages.base import (
    CONFLICT,
    DELETE,
    KEEP,
    PUT,
    TOUCH,
    Change,
    Committed,
    Lease,
    Locked,
    LockRequest,
    Outcome,
    Record,
    Version,
)
from chatsession.storages.redis import RedisStorage
from tools.servers.redis import RedisServer

LARGE = b"[" + b"1234567," * 2_000 + b"0]"
OTHER = LARGE.replace(b"7,0]", b"8,0]")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
async def storage(server: RedisServer, client: redis.Redis) -> AsyncIterator[RedisStorage]:
    async with RedisStorage(server.url) as storage:
        yield storage


async def lock(storage: RedisStorage, waiter: str = "a-1", seconds: float = 60) -> tuple[Lease, Record | None]:
    (locked,) = await storage.lock_many([LockRequest("chat", waiter, seconds)])
    assert isinstance(locked, Locked)
    return locked.lease, locked.record


async def commit(storage: RedisStorage, change: Change) -> Outcome:
    (outcome,) = await storage.commit_many([change])
    return outcome


async def put(
    storage: RedisStorage, value: bytes, expect: Version | None, lease: Lease, *, unlock: bool, ttl: float | None = None
) -> Version:
    outcome = await commit(storage, Change("chat", PUT, value, expect, ttl, lease, unlock))
    assert isinstance(outcome, Committed)
    return outcome.version


WRITES = [
    ("SET", "chat", OTHER),
    ("SET", "chat", OTHER, "KEEPTTL"),
    ("GETSET", "chat", OTHER),
    ("SET", "chat", "{}"),
    ("APPEND", "chat", " "),
    ("APPEND", "chat", "\0"),
    ("SETRANGE", "chat", 8_000, "x"),
    ("SETRANGE", "chat", 20_000, ""),
    ("SETBIT", "chat", 64_000, 1),
    ("BITFIELD", "chat", "SET", "u8", 8_000, 1),
    ("RENAME", "other", "chat"),
    ("COPY", "other", "chat", "REPLACE"),
    ("DEL", "chat"),
    ("PEXPIREAT", "chat", 1),
    ("FLUSHALL",),
]


@pytest.mark.parametrize("write", WRITES, ids=lambda write: "-".join(map(str, write[:1] + write[2:3]))[:30])
@pytest.mark.parametrize("saved", [False, True], ids=["read", "saved"])
async def test_every_write_of_others_is_noticed(
    storage: RedisStorage, client: redis.Redis, write: tuple[str | int, ...], saved: bool
) -> None:
    client.mset({"chat": LARGE, "other": OTHER})
    lease, record = await lock(storage)
    assert record is not None
    version = record.version
    if saved:
        version = await put(storage, LARGE[:-1] + b" ]", version, lease, unlock=False)
    before = client.get("chat")
    client.execute_command(*write)
    if client.get("chat") == before:
        pytest.skip("this command has changed nothing")
    after = client.get("chat")
    if write == ("FLUSHALL",):  # the lock is gone as well
        outcome = await commit(storage, Change("chat", PUT, LARGE, version, None, lease, True))
        assert outcome is not CONFLICT
        assert not isinstance(outcome, Committed)
    else:
        for action in (PUT, DELETE, TOUCH, KEEP):
            change = Change(
                "chat", action, LARGE if action is PUT else b"", version, None, lease, unlock=action is KEEP
            )
            assert await commit(storage, change) is CONFLICT
    assert client.get("chat") == after


async def test_what_nobody_else_wrote_is_written_on_and_on(storage: RedisStorage, client: redis.Redis) -> None:
    client.set("chat", LARGE)
    lease, record = await lock(storage)
    assert record is not None
    assert record.value == LARGE
    version = record.version
    for number in range(3):
        version = await put(storage, LARGE + b" " * number, version, lease, unlock=False, ttl=1_000)
        assert await commit(storage, Change("chat", TOUCH, b"", version, 500, lease)) == Committed(version)
        assert await commit(storage, Change("chat", KEEP, b"", version, None, lease)) == Committed(version)
    version = await put(storage, b"small", version, lease, unlock=False)
    version = await put(storage, LARGE, version, lease, unlock=False)
    assert await storage.renew_many([lease], 60) == [True]
    await put(storage, OTHER, version, lease, unlock=True)
    assert client.get("chat") == OTHER
    assert client.ttl("chat") == -1


async def test_a_version_of_an_earlier_lease_still_holds(storage: RedisStorage, client: redis.Redis) -> None:
    client.set("chat", LARGE)
    earlier, record = await lock(storage)
    assert record is not None
    await commit(storage, Change("chat", KEEP, lease=earlier, unlock=True))
    later, _ = await lock(storage, "a-2")
    await put(storage, OTHER, record.version, later, unlock=False)
    assert await commit(storage, Change("chat", PUT, LARGE, record.version, None, later, True)) is CONFLICT


async def test_a_value_that_expires_while_it_is_locked_may_be_written(
    storage: RedisStorage, client: redis.Redis
) -> None:
    for milliseconds in (50, 500, 5_000, 50_000):  # a busy machine may need longer to lock it
        client.flushall()
        client.set("chat", LARGE, px=milliseconds)
        lease, record = await lock(storage)
        if record is not None:
            break
    assert record is not None
    assert record.expires_at is not None
    while client.exists("chat"):
        pass
    change = Change("chat", PUT, OTHER, record.version, None, lease, True, expect_until=record.expires_at)
    assert isinstance(await commit(storage, change), Committed)
    assert client.get("chat") == OTHER


async def test_nothing_is_left_but_the_session_and_the_outcome(storage: RedisStorage, client: redis.Redis) -> None:
    client.set("chat", LARGE)
    lease, record = await lock(storage)
    assert record is not None
    assert await commit(storage, Change("chat", PUT, OTHER, "another", None, lease)) is CONFLICT
    await put(storage, OTHER, record.version, lease, unlock=True)
    assert {name.split(b":")[1] for name in client.keys("!*")} == {b"done"}
    lease, record = await lock(storage, "a-2")
    await storage.abandon_many([LockRequest("chat", "a-2", 60)])
    assert {name.split(b":")[1] for name in client.keys("!*")} == {b"done"}


async def test_what_a_dead_process_left_ends_with_its_lease(storage: RedisStorage, client: redis.Redis) -> None:
    client.set("chat", LARGE)
    await lock(storage, seconds=5)
    lives = [client.pttl(name) for name in client.keys("!*")]
    assert len(lives) == 2
    assert all(0 < milliseconds <= 65_000 for milliseconds in lives)


async def test_a_copy_of_a_delayed_call_is_not_taken_for_what_was_read(
    storage: RedisStorage, client: redis.Redis
) -> None:
    client.set("chat", LARGE)
    lease, record = await lock(storage)
    assert record is not None
    client.set("chat", OTHER)
    await lock(storage)  # the same request arrives again
    assert await commit(storage, Change("chat", PUT, LARGE, record.version, None, lease, True)) is CONFLICT
    assert client.get("chat") == OTHER


async def test_a_server_that_cannot_copy_compares_digests(server: RedisServer, client: redis.Redis) -> None:
    client.acl_setuser("old", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"], commands=["+@all", "-copy"])
    async with RedisStorage(server.url.replace("redis://", "redis://old:pw@", 1)) as storage:
        client.set("chat", LARGE)
        lease, record = await lock(storage)
        assert record is not None
        version = await put(storage, OTHER, record.version, lease, unlock=False)
        client.setrange("chat", 8_000, "x")
        assert await commit(storage, Change("chat", PUT, LARGE, version, None, lease, True)) is CONFLICT


async def test_a_handler_that_meets_a_foreign_write_is_told(server: RedisServer, client: redis.Redis) -> None:
    async with SessionManager(list[int], type=list[int], storage=RedisStorage(server.url)) as sessions:
        async with sessions.open("chat") as session:
            session.data = [1] * 10_000
        with pytest.raises(SessionConflictError):
            async with sessions.open("chat") as session:
                client.setrange("chat", 5_001, "2")
                session.data.append(3)
        assert (await sessions.get("chat") or []).count(2) == 1


async def test_a_read_only_update_of_a_large_session_unlocks_it(server: RedisServer, client: redis.Redis) -> None:
    async with SessionManager(list[int], type=list[int], storage=RedisStorage(server.url)) as sessions:
        async with sessions.open("chat") as session:
            session.data = [1] * 10_000
        for _ in range(2):
            async with sessions.open("chat") as session:
                assert len(session.data) == 10_000
            assert not client.keys("!chatsession:lock:*")

"""Redis: what servers, networks and other people's hands can do."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
import redis.asyncio as driver
from _redis_proxy import RedisProxy

from chatsession.errors import (
    SessionError,
    SessionKeyError,
    SessionTooLargeError,
    StorageError,
    StorageUnavailableError,
)
from chatsession.storages import Action, Change, Committed, Locked, LockRequest, Record, Refused
from chatsession.storages._shared.retries import retries
from chatsession.storages.redis import RedisStorage
from chatsession.storages.redis._inspection import _fields_of, unsuitability
from chatsession.storages.redis._servers import single_server
from chatsession.storages.redis._url import parse
from chatsession.testing.conformance.single import lock, put, read, request, try_lock, unlock, value_of
from tools.servers._process import free_ports
from tools.servers.redis import RedisCluster, RedisServer

SECRET = "s3cr3t p@ss/word"


@pytest.fixture
def server(redis_or_valkey: RedisServer) -> RedisServer:
    return redis_or_valkey


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    with RedisServer(password=SECRET) as server:
        yield server


@pytest.fixture
async def storage(server: RedisServer) -> AsyncIterator[RedisStorage]:
    async with RedisStorage(server.url) as storage:
        yield storage


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[RedisProxy]:
    async with RedisProxy(server.port) as proxy:
        yield proxy


@contextmanager
def hasty(storage: RedisStorage, seconds: float = 0.3) -> Generator[None]:
    """Meanwhile it gives up soon; where it is to succeed, a busy machine needs its time."""
    patient, storage._calls.retry_for = storage._calls.retry_for, seconds
    yield
    storage._calls.retry_for = patient


async def refused(url: str, kind: type[StorageError] = StorageError) -> str:
    """Opening fails; gives what is said, which names no credentials."""
    storage = RedisStorage(url, retry_for=0.3 if kind is StorageUnavailableError else 60)
    with pytest.raises(StorageError) as caught:
        await storage.open()
    assert type(caught.value) is kind
    assert not storage.is_open
    text = f"{caught.value} {caught.value!r} {storage!r}"
    assert "s3cr3t" not in text
    assert "p@ss" not in text
    return str(caught.value)


async def test_wrong_and_missing_credentials(guarded: RedisServer, server: RedisServer) -> None:
    at = f"127.0.0.1:{guarded.port}"
    assert "user name or password" in await refused(f"redis://:s3cr3t-wrong@{at}")
    assert "user name or password" in await refused(f"redis://somebody:s3cr3t@{at}")
    assert "password" in await refused(f"redis://{at}")
    async with RedisStorage(guarded.url) as storage:
        await put(storage, "424242", b"1")
    assert "password" in await refused(f"redis://:s3cr3t@127.0.0.1:{server.port}")


async def test_wrong_database(server: RedisServer) -> None:
    assert "no database of that number" in await refused(server.url.replace("/0", "/77"))
    async with RedisStorage(server.url.replace("/0", "/3")) as storage:
        await put(storage, "424242", b"1")
    assert server.ask("-n", 3, "GET", "424242") == "1"


async def test_nobody_there() -> None:
    port = free_ports(1)[0]
    for scheme, path in (("redis", ""), ("redis+sentinel", "/sessions"), ("redis+cluster", "")):
        said = await refused(f"{scheme}://:s3cr3t@127.0.0.1:{port}{path}", StorageUnavailableError)
        assert str(port) in said


async def test_a_server_that_comes_a_little_late() -> None:
    with RedisServer() as server:
        server.process.kill()
        storage = RedisStorage(server.url, retry_for=60)
        opening = asyncio.create_task(storage.open())
        await asyncio.sleep(0)
        await asyncio.to_thread(server.start)
        await opening
        await storage.close()


async def test_cluster_and_no_cluster(server: RedisServer, redis_cluster: RedisCluster) -> None:
    assert "not part of a cluster" in await refused(f"redis+cluster://127.0.0.1:{server.port}")
    assert "redis+cluster:" in await refused(redis_cluster.servers[0].url)


async def test_a_read_only_replica(server: RedisServer) -> None:
    with RedisServer(arguments=("--replicaof", "127.0.0.1", str(server.port))) as replica:
        assert "read-only replica" in await refused(replica.url)


async def test_a_server_that_becomes_a_replica(server: RedisServer) -> None:
    with RedisServer() as turncoat:
        async with RedisStorage(turncoat.url) as storage:
            turncoat.ask("REPLICAOF", "127.0.0.1", server.port)
            with hasty(storage, 2), pytest.raises(StorageUnavailableError, match="takes no writes"):
                await put(storage, "424242", b"1")
            turncoat.ask("REPLICAOF", "NO", "ONE")
            await put(storage, "424242", b"1")


@pytest.mark.parametrize(
    ("info", "says"),
    [
        ("redis_version:5.0.14\r\nrole:master\r\n", "Redis 5.0.14"),
        ("redis_version:6.0.0\r\nrole:master\r\n", None),
        ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\nrole:master\r\n", None),
        ("redis_version:10.0.1\r\n", None),
        ("nonsense", "no known version"),
    ],
)
async def test_a_server_that_is_too_old(info: str, says: str | None) -> None:
    servers = single_server(parse(urlsplit("redis://localhost")))
    found = unsuitability(_fields_of(info.encode()), servers)
    await servers.close()
    assert (found is None) if says is None else (says in str(found))


async def test_values_that_are_no_strings(storage: RedisStorage, server: RedisServer) -> None:
    server.ask("LPUSH", "list", "a")
    await put(storage, "string", b"1")
    keys = ["string", "list", "none"]
    actions = [Action.PUT, Action.DELETE, Action.TOUCH, Action.KEEP]

    found = await storage.read_many(keys)
    locked = await storage.lock_many([request(key) for key in keys])
    assert isinstance(found[0], Record)
    assert isinstance(locked[0], Locked)
    errors = [found[1], locked[1]]
    for expect in ("0" * 40, None):
        errors += [(await storage.commit_many([Change("list", action, b"2", expect)]))[0] for action in actions]
    errors += [(await storage.commit_many([Change("list", action, b"2")]))[0] for action in actions]
    for error in errors:
        assert type(error) is StorageError
        assert "'list'" in str(error)
        assert "not a string" in str(error)
    assert found[2] is None
    assert server.ask("LRANGE", "list", 0, -1) == "a"
    assert server.ask("KEYS", "*lock*list*") == ""
    assert [key for key, _ in (await storage.scan("", None, 100)).entries] == ["string"]


async def test_a_full_memory() -> None:
    with RedisServer() as server:
        async with RedisStorage(server.url) as storage:
            await put(storage, "424242", b"1")
            held = await lock(storage, "424242")
            server.ask("CONFIG", "SET", "maxmemory", "1")

            change = Change("424242", Action.PUT, b"2" * 1000, lease=held.lease, unlock=True)
            (outcome,) = await storage.commit_many([change])
            assert type(outcome) is StorageError
            assert "maxmemory" in str(outcome)
            assert "2222" not in str(outcome)
            assert await value_of(storage, "424242") == b"1"
            (refusal,) = await storage.lock_many([request("other")])
            assert isinstance(refusal, StorageError)
            assert "maxmemory" in str(refusal)

            server.ask("CONFIG", "SET", "maxmemory", "0")
            await unlock(storage, (await lock(storage, "424242")).lease)


@pytest.mark.parametrize("clustered", [False, True])
async def test_a_value_too_large_fails_alone(clustered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if clustered:  # each session in a call of its own
        monkeypatch.setattr("chatsession.storages.redis._servers.Servers.items_per_script", 1)
    with RedisServer(arguments=["--proto-max-bulk-len", "1mb"]) as server:
        async with RedisStorage(server.url) as storage:
            idle = await asyncio.gather(*(lock(storage, key) for key in ("first", "second", "third", "large", "huge")))
            sizes = {"first": 10, "large": 1_100_000, "second": 5_000, "huge": 9_000_000, "third": 1_000_000}
            leases = {held.lease.key: held.lease for held in idle}
            connections = {link for links in storage._calls._free.values() for link in links}
            changes = [
                Change(key, Action.PUT, b"7" * size, lease=leases[key], unlock=True) for key, size in sizes.items()
            ]
            outcomes = dict(zip(sizes, await storage.commit_many(changes), strict=True))
            for key, size in sizes.items():
                if size > 1_048_576:
                    refusal = outcomes[key]
                    assert isinstance(refusal, SessionTooLargeError)
                    assert "proto-max-bulk-len" in str(refusal)
                    assert f"{size:,}" in str(refusal)
                    assert "777" not in str(refusal)
                    assert (await lock(storage, key)).record is None
                else:
                    assert isinstance(outcomes[key], Committed)
                    assert await value_of(storage, key) == b"7" * size
            assert sum(link.is_closed for link in connections) <= 2  # one for each refused value
            (outcome,) = await storage.commit_many([Change("alone", Action.PUT, b"7" * 2_000_000)])
            assert isinstance(outcome, SessionTooLargeError)
            (long, short) = await storage.read_many(["k" * 1_100_000, "first"])
            assert isinstance(long, SessionKeyError)
            assert isinstance(short, Record)


async def test_rules_that_forbid_what_is_needed(server: RedisServer) -> None:
    server.ask("ACL", "SETUSER", "limited", "on", f">{SECRET}", "~*", "resetchannels", "+@all", "-evalsha")
    url = f"redis://limited:s3cr3t%20p%40ss%2Fword@127.0.0.1:{server.port}"
    async with RedisStorage(url) as storage:
        with pytest.raises(StorageError, match="ACL") as caught:
            await put(storage, "424242", b"1")
        assert not isinstance(caught.value, StorageUnavailableError)
        assert "s3cr3t" not in str(caught.value)
    server.ask("ACL", "DELUSER", "limited")


async def test_a_user_who_may_neither_publish_nor_subscribe_asks_again(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.ask("ACL", "SETUSER", "silent", "on", f">{SECRET}", "~*", "resetchannels", "+@all")
    url = f"redis://silent:s3cr3t%20p%40ss%2Fword@127.0.0.1:{server.port}"
    async with RedisStorage(url) as holder, RedisStorage(url) as waiter:
        held = await lock(holder, "424242")
        waiting = request("424242")
        assert await try_lock(waiter, waiting) is None
        while not caplog.records:
            await waiter.wait_unlocked(waiting, 0)
            assert await try_lock(waiter, waiting) is None
        await unlock(holder, held.lease)
        async with asyncio.timeout(60):
            await waiter.wait_unlocked(waiting, 0)
            assert await try_lock(waiter, waiting) is not None
    assert "cannot wake them" in caplog.text
    assert "s3cr3t" not in caplog.text
    server.ask("ACL", "DELUSER", "silent")


@pytest.mark.parametrize("moment", ["cut_before", "cut_after"])
async def test_a_connection_cut_in_the_middle_of_a_commit(proxy: RedisProxy, server: RedisServer, moment: str) -> None:
    """Whether the server got it or not, it is made once, and the right outcome is told."""
    async with RedisStorage(proxy.url) as storage:
        await put(storage, "424242", b"first")
        first = await read(storage, "424242")
        locked = await lock(storage, "424242")
        server.ask("CONFIG", "RESETSTAT")
        setattr(proxy, moment, b"the-second-value")
        change = Change(
            "424242", Action.PUT, b"the-second-value", first and first.version, lease=locked.lease, unlock=True
        )
        (outcome,) = await storage.commit_many([change])
        assert proxy.was_cut.is_set()
        assert type(outcome) is Committed
        now = await read(storage, "424242")
        assert now is not None
        assert (now.value, now.version) == (b"the-second-value", outcome.version)
        await unlock(storage, (await lock(storage, "424242")).lease)


@pytest.mark.parametrize("leased", [True, False])
async def test_a_commit_that_arrives_after_its_repetition_does_nothing(
    proxy: RedisProxy, storage: RedisStorage, leased: bool
) -> None:
    async with RedisStorage(proxy.url) as cut:
        lease = (await lock(cut, "424242")).lease if leased else None
        proxy.late = b"the-late-value"
        change = Change("424242", Action.PUT, b"the-late-value", lease=lease, unlock=leased)
        (outcome,) = await cut.commit_many([change])
        assert proxy.was_cut.is_set()
        assert isinstance(outcome, Committed)
    await put(storage, "424242", b"newer")
    await proxy.deliver()
    assert await value_of(storage, "424242") == b"newer"
    await lock(storage, "424242")


@pytest.mark.parametrize("moment", ["cut_before", "cut_after"])
async def test_a_connection_cut_in_the_middle_of_a_lock(proxy: RedisProxy, moment: str) -> None:
    before = retries["Redis"]
    async with RedisStorage(proxy.url) as storage:
        await put(storage, "424242", b"1")
        setattr(proxy, moment, b"the-waiter")
        (locked,) = await storage.lock_many([LockRequest("424242", "the-waiter", 30.0)])
        assert proxy.was_cut.is_set()
        assert retries["Redis"] > before
        assert isinstance(locked, Locked)
        assert locked.record is not None
        assert isinstance(await unlock(storage, locked.lease), Committed)
        assert await unlock(storage, locked.lease) is Refused.LEASE_LOST


async def test_an_abandoned_request_gives_its_lock_back(storage: RedisStorage, server: RedisServer) -> None:
    waiting = request("424242")
    assert await try_lock(storage, waiting) is not None
    await storage.abandon_many([waiting])
    assert await try_lock(storage, request("424242")) is not None


async def test_a_lock_whose_answer_was_lost_for_good_is_given_back(proxy: RedisProxy, storage: RedisStorage) -> None:
    await unlock(storage, (await lock(storage, "424242")).lease)  # else the answer that is lost is that of a new script
    async with RedisStorage(proxy.url) as cut:
        await put(cut, "424242", b"1")
        wanted = LockRequest("424242", "the-waiter", 600.0)
        proxy.cut_after = b"the-waiter"
        proxy.shut()
        with hasty(cut, 1.0), pytest.raises(StorageUnavailableError):
            await cut.lock_many([wanted])
        other = request("424242")
        assert await try_lock(storage, other) is None, "it was granted"
        await proxy.open()
        await cut.abandon_many([wanted])
        assert await try_lock(storage, other) is not None


async def test_connections_that_the_server_has_closed_meanwhile(storage: RedisStorage, server: RedisServer) -> None:
    await asyncio.gather(*(put(storage, f"chat:{number}", b"1") for number in range(20)))
    server.ask("CLIENT", "KILL", "TYPE", "normal")
    assert await value_of(storage, "chat:7") == b"1"


async def test_scripts_that_the_server_has_forgotten(storage: RedisStorage, server: RedisServer) -> None:
    await put(storage, "424242", b"1")
    server.ask("SCRIPT", "FLUSH")
    held = await lock(storage, "424242")
    server.ask("SCRIPT", "FLUSH")
    await unlock(storage, held.lease)


async def test_a_server_that_was_started_anew() -> None:
    """It keeps nothing: a lock that it has forgotten is lost, and whoever had it overwrites nothing."""
    with RedisServer() as server:
        async with RedisStorage(server.url) as storage:
            held = await lock(storage, "424242")
            server.process.kill()
            server.start()
            change = Change("424242", Action.PUT, b"1", lease=held.lease, unlock=True)
            assert await storage.commit_many([change]) == [Refused.LEASE_LOST]
            newer = await lock(storage, "424242")
            assert newer.lease.token > held.lease.token


async def test_a_server_that_stands_still() -> None:
    with RedisServer() as server:
        async with RedisStorage(server.url) as storage:
            await put(storage, "424242", b"1")
            server.process.signal(signal.SIGSTOP)
            with hasty(storage), pytest.raises(StorageUnavailableError, match="did not serve") as caught:
                await put(storage, "424242", b"secret-data")
            assert "secret-data" not in str(caught.value)
            server.process.signal(signal.SIGCONT)
            assert await value_of(storage, "424242") is not None


async def test_fewer_replicas_than_wanted(server: RedisServer) -> None:
    async with RedisStorage(server.url, wait_replicas=1) as storage:
        with hasty(storage, 2), pytest.raises(StorageUnavailableError, match="fewer replicas"):
            await put(storage, "424242", b"1")


async def test_a_clock_that_was_set_back(storage: RedisStorage, server: RedisServer) -> None:
    """A newer token is larger all the same."""
    storage._newest_token = 2_000_000_000_000_000
    held = await lock(storage, "424242")
    assert held.lease.token == 2_000_000_000_000_001
    assert isinstance(await unlock(storage, held.lease), Committed)


async def test_cancelled_calls_leave_no_answer_behind(storage: RedisStorage) -> None:
    await put(storage, "a", b"1")
    for _ in range(20):
        task = asyncio.create_task(read(storage, "b"))
        for _ in range(4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert await value_of(storage, "a") == b"1"


async def test_tls(server: RedisServer) -> None:
    with RedisServer(tls=True, password=SECRET) as encrypted:
        async with RedisStorage(encrypted.url) as storage:
            await put(storage, "424242", b"1" * 300_000)
            assert await value_of(storage, "424242") == b"1" * 300_000
        async with RedisStorage(encrypted.url.partition("?")[0] + "?ssl_cert_reqs=none") as storage:
            assert await value_of(storage, "424242") is not None
        assert "not trusted" in await refused(encrypted.url.partition("?")[0])
        assert "answer in time" in await refused(f"rediss://127.0.0.1:{server.port}", StorageUnavailableError)


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 2}, {"protocol": 3}, {"db": 2}])
async def test_a_client_that_the_user_has(server: RedisServer, options: dict[str, object]) -> None:
    async with driver.Redis(host="127.0.0.1", port=server.port, **options) as client:
        await client.ping()
        async with RedisStorage(client) as storage, RedisStorage(client) as other:
            await put(storage, "424242", b"\xff\x00")
            assert await value_of(storage, "424242") == b"\xff\x00"
            held = await lock(storage, "424242")
            waiting = request("424242")
            assert await try_lock(other, waiting) is None
            while "!chatsession:wake" not in server.ask("PUBSUB", "CHANNELS"):
                await other.wait_unlocked(waiting, 0)
                assert await try_lock(other, waiting) is None
            woken = asyncio.create_task(other.wait_unlocked(waiting, 0))
            await asyncio.sleep(0)
            await unlock(storage, held.lease)
            await woken
            assert await try_lock(other, waiting) is not None
            assert (await storage.scan("", None, 10)).entries[0][0] == "424242"
            assert "given client" in repr(storage)
        assert await client.ping(), "it is left open"


async def test_a_cluster_client_that_the_user_has(redis_cluster: RedisCluster) -> None:
    first = redis_cluster.servers[0]
    async with driver.RedisCluster(host="127.0.0.1", port=first.port, decode_responses=True) as client:
        async with RedisStorage(client) as storage:
            await asyncio.gather(*(put(storage, f"users:{number}", b"\xff") for number in range(50)))
            assert await value_of(storage, "users:7") == b"\xff"
        assert await client.get("none") is None, "it is left open"


async def test_a_user_of_a_closed_storage_may_open_it_again(server: RedisServer) -> None:
    storage = RedisStorage(server.url)
    for _ in range(2):
        async with storage:
            await put(storage, "424242", b"1")
    await storage.close()


async def test_keys_that_are_not_ours_are_not_enumerated(storage: RedisStorage, server: RedisServer) -> None:
    await put(storage, "424242", b"1")
    async with driver.Redis(host="127.0.0.1", port=server.port) as client:
        await client.set(b"\xff\xfe", b"1")
    await lock(storage, "locked")
    page = await storage.scan("", None, 100)
    assert [key for key, _ in page.entries] == ["424242"]


async def test_an_enumeration_continues_after_a_restart_of_the_server() -> None:
    """A cursor of the run before means nothing to it, so it is gone through from the beginning."""
    with RedisServer(arguments=("--appendonly", "yes", "--appendfsync", "always")) as server:
        async with RedisStorage(server.url) as storage:
            keys = {f"chat:{number}" for number in range(2_000)}
            for part in (list(keys)[n : n + 100] for n in range(0, len(keys), 100)):
                await storage.commit_many([Change(key, Action.PUT, b"1") for key in part])
            seen: set[str] = set()
            cursor: str | None = None
            for number in range(1_000):
                found, cursor = await storage.scan_keys("", cursor, 100)
                seen.update(found)
                if cursor is None:
                    break
                if number == 3:
                    server.process.kill()
                    server.start()
            assert seen == keys


async def test_no_error_of_the_driver_gets_out(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is called while the server dies."""
    caplog.set_level(logging.CRITICAL)
    with RedisServer() as server:
        storage = RedisStorage(server.url)
        await storage.open()
        held = await lock(storage, "424242")
        server.process.kill()
        storage._calls.retry_for = 0.2
        waiting = request("424242")
        for call in (
            storage.read_many(["424242"]),
            storage.lock_many([waiting]),
            storage.commit_many([Change("424242", Action.PUT, b"1")]),
            storage.renew_many([held.lease], 1.0),
            storage.abandon_many([waiting]),
            storage.scan("", None, 10),
            storage.scan_keys("", None, 10),
            storage.open(),
        ):
            with pytest.raises(SessionError) as caught:
                await call
            assert isinstance(caught.value, StorageUnavailableError)
        await storage.close()

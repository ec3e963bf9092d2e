"""NATS: a cluster of three servers that keep replicas, and servers that speak TLS."""

from __future__ import annotations

import asyncio
import gc
import signal
import ssl
from collections.abc import Iterator

import pytest
from nats.aio.client import Client

from chatsession import SessionManager, open_storage
from chatsession.errors import SessionConflictError, StorageError, StorageUnavailableError
from chatsession.storages import Action, Change, Committed, Outcome, Refused
from chatsession.storages.nats import NatsStorage
from chatsession.testing.conformance.single import lock, put, value_of
from tools.servers.nats import NatsCluster, NatsServer


@pytest.fixture(scope="module")
def cluster() -> Iterator[NatsCluster]:
    with NatsCluster() as cluster:
        yield cluster


def storage_in(cluster: NatsCluster, bucket: str, retry_for: float = 60.0) -> NatsStorage:
    return NatsStorage(cluster.urls, bucket=bucket, replicas=3, retry_for=retry_for)


async def exact_count(sessions: SessionManager[dict[str, int]], key: str) -> int:
    """Locked, because any other read may come from a replica that is a little behind."""
    async with sessions.open(key) as s:
        return s.data.get("n", 0)


async def test_of_many_that_create_at_once_one_succeeds(cluster: NatsCluster) -> None:
    async with storage_in(cluster, "race") as here, storage_in(cluster, "race") as there:
        for key in map(str, range(5)):
            change = Change(key, Action.PUT, b"1", expect=None)
            outcomes = await asyncio.gather(*(each.commit_many([change]) for each in (here, there) for _ in range(20)))
            assert [type(outcome) is Committed for (outcome,) in outcomes].count(True) == 1
            assert [outcome is Refused.CONFLICT for (outcome,) in outcomes].count(True) == 39


async def test_no_update_is_lost(cluster: NatsCluster) -> None:
    async with (
        SessionManager(dict[str, int], storage=storage_in(cluster, "sums")) as here,
        SessionManager(dict[str, int], storage=storage_in(cluster, "sums")) as there,
    ):

        async def count_up(sessions: SessionManager[dict[str, int]], key: str) -> None:
            async with sessions.open(key) as s:
                s.data["n"] = s.data.get("n", 0) + 1

        keys = ["a", "b", "c"]
        await asyncio.gather(*(count_up(each, key) for _ in range(40) for each in (here, there) for key in keys))
        assert [await exact_count(there, key) for key in keys] == [80, 80, 80]


@pytest.mark.parametrize("asked", ["its leader", "another"])
async def test_a_cluster_loses_the_leader_of_a_bucket_under_load(asked: str) -> None:
    """What was acknowledged is there, and counts once; what was not says so."""
    with NatsCluster() as cluster:
        async with SessionManager(dict[str, int], storage=storage_in(cluster, "load")) as sessions:
            acknowledged = dict.fromkeys(map(str, range(10)), 0)
            unknown = dict.fromkeys(acknowledged, 0)
            begun = asyncio.Event()

            async def count_up(key: str) -> None:
                for _ in range(40):
                    try:
                        async with sessions.open(key) as s:
                            s.data["n"] = s.data.get("n", 0) + 1
                        acknowledged[key] += 1
                    except (StorageUnavailableError, SessionConflictError):
                        unknown[key] += 1
                    if sum(acknowledged.values()) > 50:
                        begun.set()

            counting = asyncio.gather(*(count_up(key) for key in acknowledged))
            await begun.wait()
            leader = await asyncio.to_thread(cluster.leader, "KV_load")
            assert leader is not None
            victim = leader if asked == "its leader" else next(each for each in cluster.servers if each is not leader)
            await asyncio.to_thread(victim.process.kill)
            await counting
            for key, least in acknowledged.items():
                assert least <= await exact_count(sessions, key) <= least + unknown[key]
            assert sum(acknowledged.values()) > 200


# The driver leaves connections open to a server that accepts them and says nothing.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("own_client", [False, True])
async def test_a_server_that_vanishes_is_left_within_seconds(own_client: bool) -> None:
    """It answers no more and hangs up on nobody; the other two are well."""
    with NatsCluster() as cluster:
        client = None
        if own_client:
            client = Client()
            await client.connect(cluster.urls, ping_interval=1, max_outstanding_pings=1, max_reconnect_attempts=-1)
        storage = NatsStorage(client or cluster.urls, bucket="vanishing", replicas=3, retry_for=30)
        async with asyncio.timeout(90), storage:
            await put(storage, "424242", b"1")
            assert storage._entries is not None
            connected = storage._entries.calls.client.connected_url
            assert connected is not None
            vanished = next(each for each in cluster.servers if each.port == connected.port)
            vanished.process.signal(signal.SIGSTOP)
            try:
                (outcome,) = await storage.commit_many([Change("424242", Action.PUT, b"2")])
                assert isinstance(outcome, Committed)
            finally:
                vanished.process.signal(signal.SIGCONT)
        if client is not None:
            await client.close()
    gc.collect()


async def test_the_majority_of_a_cluster_is_gone() -> None:
    with NatsCluster() as cluster:
        async with storage_in(cluster, "few") as storage:

            async def store(value: bytes) -> Outcome:
                (outcome,) = await storage.commit_many([Change("424242", Action.PUT, value)])
                return outcome

            await put(storage, "424242", b"1")
            for each in cluster.servers[:2]:
                await asyncio.to_thread(each.process.kill)
            assert storage._entries is not None
            storage._entries.calls.retry_for = storage._entries._retry_for = 1.0
            async with asyncio.timeout(120):
                assert isinstance(await store(b"2"), StorageUnavailableError)
                for each in cluster.servers[:2]:
                    await asyncio.to_thread(each.start)
                while not isinstance(outcome := await store(b"3"), Committed):
                    assert isinstance(outcome, StorageUnavailableError)
            storage._entries.calls.retry_for = storage._entries._retry_for = 60.0
            locked = await lock(storage, "424242")
            assert locked.record is not None
            assert locked.record.value == b"3"


async def test_tls_with_a_client_that_knows_the_certificate() -> None:
    with NatsServer(tls=True, user="bot", password="secret") as server:
        client = Client()
        await client.connect(server.url, tls=ssl.create_default_context(cafile=server.certificate))
        async with NatsStorage(client) as storage:
            await put(storage, "424242", b"1" * 300_000)
            assert await value_of(storage, "424242") == b"1" * 300_000
        await client.close()


async def test_tls_with_a_certificate_that_the_system_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    with NatsServer(tls=True) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        async with open_storage(server.url.replace("tls:", "nats:")) as storage:
            await put(storage, "424242", b"1")
            assert await value_of(storage, "424242") == b"1"
        async with NatsStorage(server.url) as storage:
            assert await value_of(storage, "sessions") is None
            assert await value_of(storage, "424242") == b"1"


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_an_untrusted_certificate_is_an_error(scheme: str) -> None:
    with NatsServer(tls=True, user="bot", password="secret") as server:
        url = server.url.replace("tls:", f"{scheme}:")
        with pytest.raises(StorageUnavailableError, match="cannot be reached") as caught:
            await NatsStorage(url, retry_for=5).open()
        assert "SSLCertVerificationError" in str(caught.value)
        assert "secret" not in str(caught.value)


async def test_too_few_servers_for_so_many_replicas(cluster: NatsCluster) -> None:
    """It waits for them as long as `retry_for` says: servers of a cluster that was just started come one by one."""
    storage = NatsStorage(cluster.urls, bucket="many", replicas=5, retry_for=0.5)
    began = asyncio.get_running_loop().time()
    with pytest.raises(StorageError, match="no suitable peers"):
        await storage.open()
    assert asyncio.get_running_loop().time() - began >= 0.5
    await storage.close()

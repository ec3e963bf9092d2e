"""NATS: what the server, the network and other people's hands can do."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count
from urllib.parse import quote

import pytest
from _nats_proxy import NatsProxy
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig

from chatsession import SessionManager, open_storage
from chatsession.errors import (
    SessionConflictError,
    SessionError,
    SessionKeyError,
    SessionTooLargeError,
    StorageError,
    StorageUnavailableError,
)
from chatsession.storages import Action, Change, Committed, Refused
from chatsession.storages.nats import NatsStorage, _calls, _names
from chatsession.storages.nats._bucket import Done, Put, Stale
from chatsession.storages.nats._calls import message_id
from chatsession.storages.nats._listing import Listing
from chatsession.storages.nats._records import Entry
from chatsession.testing.conformance.single import delete, is_busy, lock, put, read, request, try_lock, unlock, value_of
from tools.servers._process import free_ports
from tools.servers.nats import NatsServer, binaries

_buckets = count()


@pytest.fixture(scope="module", params=binaries(), ids=lambda path: path)
def server(request: pytest.FixtureRequest) -> Iterator[NatsServer]:
    with NatsServer(binary=request.param) as server:
        yield server


@pytest.fixture(params=binaries(), ids=lambda path: path)
def binary(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def bucket() -> str:
    return f"faults-{next(_buckets)}"


@pytest.fixture
async def storage(server: NatsServer, bucket: str) -> AsyncIterator[NatsStorage]:
    async with NatsStorage(server.url, bucket=bucket) as storage:
        yield storage


@pytest.fixture
async def client(server: NatsServer) -> AsyncIterator[Client]:
    client = await connected(server.url)
    yield client
    await client.close()


@pytest.fixture
async def proxy(server: NatsServer) -> AsyncIterator[NatsProxy]:
    async with NatsProxy(server.port) as proxy:
        yield proxy


async def connected(url: str) -> Client:
    async def ignore(_: Exception) -> None:
        """The driver's default writes it to the log."""

    client = Client()
    await client.connect(url, reconnect_time_wait=1, error_cb=ignore)
    return client


def jetstream(client: Client) -> JetStreamContext:
    return client.jetstream()  # pyright: ignore[reportUnknownMemberType] # half typed there


# Names


@given(st.text(min_size=1, max_size=80))
def test_a_name_is_valid_in_nats_and_leads_back_to_its_key(key: str) -> None:
    name = _names.name_of(key)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-/_=.")
    assert not name.startswith(".")
    assert not name.endswith(".")
    assert ".." not in name
    assert _names.key_of(name) == key


@pytest.mark.parametrize("name", ["", "a b", "=2f", "=61", "a=", ".a", "a.", "a..b", "=FF", "é", "a" * 2001])
def test_a_foreign_name_leads_to_no_key(name: str) -> None:
    assert _names.key_of(name) is None


@pytest.mark.parametrize("key", ["", "\ud800", "x" * 2001, "é" * 700, "x" * 2**20])
async def test_an_unusable_key_is_refused(storage: NatsStorage, key: str) -> None:
    results = [
        *await storage.read_many([key]),
        *await storage.commit_many([Change(key, Action.PUT, b"1")]),
        *await storage.lock_many([request(key)]),
    ]
    assert [type(result) for result in results] == [SessionKeyError] * 3


# What lies in the bucket


async def test_the_tools_of_nats_read_and_write_sessions(storage: NatsStorage, bucket: str, client: Client) -> None:
    kv = await jetstream(client).key_value(bucket)
    await put(storage, "424242", b'{"count":1}')
    assert (await kv.get("424242")).value == b'{"count":1}'
    version = await put(storage, "a b", b"1")
    assert (await kv.get("a=20b")).value == b"1"

    await kv.put("a=20b", b"2")
    assert await value_of(storage, "a b") == b"2"
    assert await storage.commit_many([Change("a b", Action.PUT, b"3", version)]) == [Refused.CONFLICT]
    await kv.delete("a=20b")
    assert await read(storage, "a b") is None
    await put(storage, "a b", b"4", expect=None)


async def test_a_change_by_hand_costs_the_holder_its_lock_and_stays(
    storage: NatsStorage, bucket: str, client: Client
) -> None:
    kv = await jetstream(client).key_value(bucket)
    locked = await lock(storage, "424242")
    await kv.put("424242", b"by hand")
    change = Change("424242", Action.PUT, b"1", None, lease=locked.lease, unlock=True)
    assert await storage.commit_many([change]) == [Refused.LEASE_LOST]
    assert await value_of(storage, "424242") == b"by hand"


async def test_locks_and_facts_are_listed(storage: NatsStorage) -> None:
    leases = [(await lock(storage, key)).lease for key in ("chat:1", "chat:2", "other")]
    await unlock(storage, leases[1])
    assert await try_lock(storage, request("chat:1")) is None
    (held,) = await storage.list_locks("chat:", 10)
    assert (held.key, held.token, held.waiters) == ("chat:1", leases[0].token, 1)
    assert len(await storage.list_locks("", 1)) == 1
    facts = {fact.name: fact for fact in await storage.facts()}
    assert facts["replicas"].value == "1"
    assert facts["replicas"].advice is not None
    assert facts["kept in"].advice is None


async def messages_in(client: Client, bucket: str) -> int:
    """How many there are beside that of the era."""
    return (await jetstream(client).stream_info(f"KV_{bucket}")).state.messages - 1


async def test_locks_alone_leave_no_messages_behind(storage: NatsStorage, bucket: str, client: Client) -> None:
    locked = [await lock(storage, str(number)) for number in range(20)]
    await put(storage, "7", b"1", ttl=1.0)
    await delete(storage, "7")
    for each in locked:
        await unlock(storage, each.lease)
    async with asyncio.timeout(60):
        while await messages_in(client, bucket):
            pass


async def test_a_deleted_session_leaves_a_marker_where_it_is_needed(
    storage: NatsStorage, bucket: str, client: Client
) -> None:
    assert storage._entries is not None
    digging = storage._entries.bucket.expires_by_itself
    await put(storage, "deleted", b"1" * 1000)
    await delete(storage, "deleted")
    await lock(storage, "seen", seconds=0.1)
    async with asyncio.timeout(60):
        while await messages_in(client, bucket) > digging:
            await storage.sweep(7)
    await put(storage, "deleted", b"2")
    assert await value_of(storage, "deleted") == b"2"


async def test_expired_sessions_are_removed_by_server_or_sweep(
    storage: NatsStorage, bucket: str, client: Client
) -> None:
    await storage.commit_many([Change(str(number), Action.PUT, b"1", ttl=0.1) for number in range(20)])
    await put(storage, "stays", b"1", ttl=1000.0)
    await put(storage, "stays too", b"1")
    async with asyncio.timeout(60):
        while await messages_in(client, bucket) > 2:
            await storage.sweep(7)
    assert await value_of(storage, "stays") == await value_of(storage, "stays too") == b"1"


async def test_the_lock_of_an_expiring_session_does_not_expire_with_it(
    storage: NatsStorage, bucket: str, client: Client
) -> None:
    await put(storage, "424242", b"1", ttl=0.2)
    locked = await lock(storage, "424242", 600.0)
    await put(storage, "another", b"1", ttl=0.2)
    async with asyncio.timeout(60):
        while await messages_in(client, bucket) > 1:
            await storage.sweep()
    assert await read(storage, "424242") is None
    assert await is_busy(storage, "424242")
    change = Change("424242", Action.PUT, b"2", None, lease=locked.lease, unlock=True)
    assert isinstance((await storage.commit_many([change]))[0], Committed)


async def test_a_malformed_header_is_reported(storage: NatsStorage, bucket: str, client: Client) -> None:
    await jetstream(client).publish(f"$KV.{bucket}.424242", b"1", headers={"Chatsession": "[rubbish"})
    for result in (
        *await storage.read_many(["424242"]),
        *await storage.lock_many([request("424242")]),
        *await storage.commit_many([Change("424242", Action.PUT, b"2")]),
    ):
        assert isinstance(result, StorageError)
        assert result.key == "424242"


async def test_a_foreign_entry_is_reported_by_an_enumeration(storage: NatsStorage, bucket: str, client: Client) -> None:
    await jetstream(client).publish(f"$KV.{bucket}.a=zz", b"1")
    with pytest.raises(StorageError, match="a=zz"):
        await storage.scan("", None, 10)


async def test_the_largest_session_can_be_locked_a_larger_is_refused(storage: NatsStorage) -> None:
    largest = 1024 * 1024 - 8 * 1024
    await put(storage, "424242", b"x" * largest)
    locked = await lock(storage, "424242")
    for _ in range(50):
        assert await try_lock(storage, request("424242")) is None
    change = Change("424242", Action.PUT, b"x" * (largest + 1), lease=locked.lease, unlock=True)
    (outcome,) = await storage.commit_many([change])
    assert isinstance(outcome, SessionTooLargeError)
    assert "max_payload" in str(outcome)
    assert await value_of(storage, "424242") == b"x" * largest


# Enumeration


async def test_a_listing_skips_no_name_while_others_are_deleted() -> None:
    names = [f"{number:04}" for number in range(1000)]
    start = list(names)

    async def fetch(offset: int) -> tuple[list[str], int]:
        part = names[offset : offset + 100]
        del names[:30]  # those were given already, or are gone
        return part, len(names) + 30

    listing = Listing(fetch)
    found: list[str] = []
    cursor = None
    while True:
        part, cursor = await listing.after(cursor, 7)
        found += part
        if cursor is None:
            break
    assert len(found) == len(set(found))
    assert set(names) <= set(found) <= set(start)


async def test_a_listing_can_go_on_from_any_cursor() -> None:
    names = [f"{number:04}" for number in range(500)]

    async def fetch(offset: int) -> tuple[list[str], int]:
        return names[offset : offset + 100], len(names)

    found, _ = await Listing(fetch).after("0321", 5)
    assert found == ["0322", "0323", "0324", "0325", "0326"]
    assert await Listing(fetch).after("0499", 5) == ([], None)


# A server that is not there, or not as it should be


async def test_wrong_credentials_fail_at_once_and_are_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with NatsServer(user="bot", password="right-pw") as server:
        async with open_storage(server.url) as storage:
            await put(storage, "424242", b"1")
        wrong = server.url.replace("right-pw", "wrong-pw")
        for storage in (open_storage(wrong), open_storage(f"nats://127.0.0.1:{server.port}")):
            with pytest.raises(StorageError, match="refuses these credentials") as raised:
                await storage.open()
            assert not isinstance(raised.value, StorageUnavailableError)
            assert not storage.is_open
            for text in (str(raised.value), repr(raised.value.__cause__), repr(storage), caplog.text):
                assert "-pw" not in text


async def test_a_server_that_is_down_is_an_error_in_time() -> None:
    (port,) = free_ports(1)
    storage = NatsStorage(f"nats://bot:secret-pw@127.0.0.1:{port}", retry_for=1)
    async with asyncio.timeout(60):
        with pytest.raises(StorageUnavailableError, match=f"127.0.0.1:{port}") as raised:
            await storage.open()
    assert "secret-pw" not in str(raised.value) + repr(storage)
    await storage.close()
    with pytest.raises(StorageError, match="not open"):
        await storage.read_many(["1"])


async def test_a_server_that_is_too_old_is_refused(proxy: NatsProxy, client: Client) -> None:
    version = client.connected_server_version
    async with asyncio.timeout(60):
        proxy.rewrite = f'"version":"{version.major}.{version.minor}.'.encode(), b'"version":"2.8.'
        with pytest.raises(StorageError, match=r"this is NATS server .*2\.8.*, but sessions need 2\.9 or newer"):
            await NatsStorage(proxy.url).open()


@pytest.mark.parametrize("own_client", [False, True])
async def test_a_forbidden_subject_fails_its_key_only(
    binary: str, own_client: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_calls, "LONGEST_TRY", 3600.0)
    rights = '{publish: {allow: [">"], deny: ["$KV.sessions.Secret", "$JS.API.DIRECT.GET.*.$KV.sessions.Hidden"]}}'
    users = f'authorization: {{users: [{{user: "bot", password: "pw", permissions: {rights}}}]}}'
    with NatsServer(binary=binary, settings=[users]) as server:
        url = f"nats://bot:pw@127.0.0.1:{server.port}"
        client = await connected(url) if own_client else None
        async with asyncio.timeout(60), NatsStorage(client or url, retry_for=3600) as storage:
            keys = ["Secret", "secret", "Hidden", "free"]
            locked = await storage.lock_many([request(key) for key in keys])
            assert [isinstance(each, StorageError) for each in locked] == [True, False, True, False]
            assert "may not publish to $KV.sessions.Secret" in str(locked[0])
            outcomes = await storage.commit_many([Change(key, Action.PUT, b"1") for key in keys])
            assert [isinstance(each, Committed) for each in outcomes] == [False, True, False, True]
        if client is not None:
            await client.close()


async def test_a_user_that_may_not_subscribe_is_an_error(binary: str) -> None:
    users = 'authorization: {users: [{user: "bot", password: "pw", permissions: {subscribe: "nothing"}}]}'
    with NatsServer(binary=binary, settings=[users]) as server:
        storage = NatsStorage(f"nats://bot:pw@127.0.0.1:{server.port}", retry_for=3600)
        async with asyncio.timeout(60):
            with pytest.raises(StorageError, match=r"may not subscribe to _INBOX\..*; give it the permission"):
                await storage.open()


async def test_a_server_without_jetstream() -> None:
    with NatsServer(jetstream=False) as server, pytest.raises(StorageUnavailableError, match="JetStream"):
        await NatsStorage(server.url).open()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"subjects": ["other.>"]}, "not a key-value bucket"),
        ({"max_msgs_per_subject": 5, "allow_direct": True}, "history of 5"),
        ({"max_msgs_per_subject": 1, "allow_direct": False}, "allow_direct"),
        ({}, "not a key-value bucket"),
    ],
)
async def test_a_stream_that_is_not_a_bucket_for_sessions(
    server: NatsServer, bucket: str, client: Client, config: dict[str, object], words: str
) -> None:
    config = {"name": f"KV_{bucket}", "subjects": [f"$KV.{bucket}.>"], **config}
    reply = await client.request(f"$JS.API.STREAM.CREATE.KV_{bucket}", json.dumps(config).encode())
    assert "error" not in json.loads(reply.data)
    with pytest.raises(StorageError, match=words):
        await NatsStorage(server.url, bucket=bucket).open()


async def test_a_full_stream_is_an_error(server: NatsServer, bucket: str, client: Client) -> None:
    await jetstream(client).create_key_value(  # pyright: ignore[reportUnknownMemberType] # half typed there
        KeyValueConfig(bucket, max_bytes=100_000, direct=True)
    )
    async with NatsStorage(server.url, bucket=bucket) as storage:
        await put(storage, "424242", b"1")
        (outcome,) = await storage.commit_many([Change("424242", Action.PUT, b"x" * 200_000)])
        assert isinstance(outcome, StorageError)
        assert await value_of(storage, "424242") == b"1"


async def test_a_given_client_is_used_and_not_closed(server: NatsServer, bucket: str, client: Client) -> None:
    async with NatsStorage(client, bucket=bucket) as storage:
        await put(storage, "424242", b"1")
        assert "client of your own" in repr(storage)
    assert client.is_connected
    async with NatsStorage(client, bucket=bucket) as storage:
        assert await value_of(storage, "424242") == b"1"
        await client.close()
        with pytest.raises(StorageUnavailableError, match="closed"):
            await storage.read_many(["424242"])


# Cut connections


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("own_client", [False, True])
async def test_a_commit_whose_connection_is_cut_is_made_once(
    proxy: NatsProxy,
    storage: NatsStorage,
    bucket: str,
    moment: str,
    own_client: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is sent again as soon as there is a connection again, and not only when no answer came."""
    monkeypatch.setattr(_calls, "LONGEST_TRY", 3600.0)
    client = await connected(proxy.url) if own_client else None
    async with NatsStorage(client or proxy.url, bucket=bucket) as here:
        locked = await lock(here, "424242")
        setattr(proxy, f"cut_{moment}", b"HPUB $KV.")
        change = Change("424242", Action.PUT, b"1", None, lease=locked.lease, unlock=True)
        (outcome,) = await here.commit_many([change])
        assert proxy.was_cut.is_set()
        assert isinstance(outcome, Committed)
        found = await read(storage, "424242")
        assert found is not None
        assert (found.value, found.version) == (b"1", outcome.version)
        assert not await is_busy(storage, "424242")
    if client is not None:
        await client.close()


async def test_a_commit_is_recognized_although_another_holds_the_lock(
    proxy: NatsProxy, storage: NatsStorage, bucket: str
) -> None:
    async with NatsStorage(proxy.url, bucket=bucket) as here:
        locked = await lock(here, "424242")
        proxy.cut_after = b"HPUB $KV."
        proxy.shut()
        change = Change("424242", Action.PUT, b"1", None, lease=locked.lease, unlock=True)
        committing = asyncio.create_task(here.commit_many([change]))
        await proxy.was_cut.wait()
        theirs = await lock(storage, "424242")
        assert theirs.record is not None
        assert theirs.record.value == b"1"
        await proxy.open()
        (outcome,) = await committing
        assert isinstance(outcome, Committed)
        assert outcome.version == theirs.record.version
        change = Change("424242", Action.PUT, b"2", outcome.version, lease=theirs.lease, unlock=True)
        assert isinstance((await storage.commit_many([change]))[0], Committed)
        assert await value_of(here, "424242") == b"2"


async def test_an_overtaken_unsent_commit_is_not_acknowledged(
    proxy: NatsProxy, storage: NatsStorage, bucket: str
) -> None:
    async with NatsStorage(proxy.url, bucket=bucket) as here:
        version = await put(here, "424242", b"0")
        proxy.cut_before = b"HPUB $KV."
        proxy.shut()
        committing = asyncio.create_task(here.commit_many([Change("424242", Action.PUT, b"1", version)]))
        await proxy.was_cut.wait()
        await put(storage, "424242", b"2")
        await proxy.open()
        (outcome,) = await committing
        assert outcome is Refused.CONFLICT or isinstance(outcome, StorageUnavailableError)
        assert await value_of(here, "424242") == b"2"


async def test_a_storage_with_a_broken_connection_can_be_closed(server: NatsServer, bucket: str) -> None:
    for turns in range(20):
        async with NatsProxy(server.port) as proxy:
            storage = NatsStorage(proxy.url, bucket=bucket)
            await storage.open()
            assert storage._entries is not None
            client = storage._entries.calls.client
            proxy.shut()
            proxy.cut_before = b"$KV."
            committing = asyncio.create_task(storage.commit_many([Change("424242", Action.PUT, b"1")]))
            await proxy.was_cut.wait()
            while client.is_connected:  # noqa: ASYNC110 - the driver tells nobody
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            await storage.close()
            (outcome,) = await committing
            assert isinstance(outcome, StorageUnavailableError)


async def test_a_deleted_session_stays_deleted_after_a_server_crash(binary: str) -> None:
    """Servers dig up what lay below a message that expired: nothing that hides a session may expire before it."""
    with NatsServer(binary=binary) as server:
        async with NatsStorage(server.url) as storage:
            for key in ("deleted", "in two steps", "short-lived"):
                await put(storage, key, b"1", ttl=600 if key == "short-lived" else None)
            await delete(storage, "deleted")
            await delete(storage, "short-lived")
            locked = await lock(storage, "in two steps", seconds=0.1)
            await storage.commit_many([Change("in two steps", Action.DELETE, lease=locked.lease)])
            await put(storage, "shorter", b"1")
            await put(storage, "shorter", b"2", ttl=0.1)
            for key in ("deleted", "short-lived"):
                await unlock(storage, (await lock(storage, key, seconds=1)).lease)
            await lock(storage, "deleted", seconds=1)  # whose holder dies
            await put(storage, "other", b"1")
            await asyncio.sleep(3.5)  # so long at most those messages took that did expire
            await put(storage, "another", b"1")
            await asyncio.to_thread(server.restart)
            for key in ("deleted", "in two steps", "short-lived", "shorter"):
                assert await value_of(storage, key) is None, key
            assert await value_of(storage, "other") == b"1"


async def test_a_question_about_a_change_may_arrive_twice(
    storage: NatsStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server knows its id then, but from the question."""
    await put(storage, "424242", b"1")
    entries = storage._entries
    assert entries is not None
    put_all = entries.bucket.put_all

    async def put_twice(puts: Sequence[Put]) -> Sequence[Done | Stale | StorageError]:
        await put_all(puts)
        return await put_all(puts)

    monkeypatch.setattr(entries.bucket, "put_all", put_twice)
    never_made = Put(_names.name_of("424242"), b"2", Entry(), 0, message_id(), entries.bucket.now())
    assert isinstance(await entries._clear_up(never_made), StorageUnavailableError)
    assert await value_of(storage, "424242") == b"1"


async def test_a_stopped_server_is_an_error_in_time(bucket: str) -> None:
    with NatsServer() as server:
        async with NatsStorage(server.url, bucket=bucket) as storage:
            await put(storage, "424242", b"1")
            assert storage._entries is not None
            storage._entries.calls.retry_for = storage._entries._retry_for = 0.5
            server.process.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, server.process.pid, os.WSTOPPED | os.WNOWAIT)  # noqa: ASYNC222 - takes no time; until then it may answer
            async with asyncio.timeout(60):
                for result in (
                    *await storage.read_many(["424242"]),
                    *await storage.commit_many([Change("424242", Action.PUT, b"2")]),
                    *await storage.lock_many([request("424242")]),
                ):
                    assert isinstance(result, StorageUnavailableError)
            server.process.signal(signal.SIGCONT)
            async with asyncio.timeout(60):  # the client needs its time to connect again
                while not isinstance((await storage.commit_many([Change("other", Action.PUT, b"1")]))[0], Committed):
                    pass


async def test_a_server_killed_under_load_loses_nothing(server: NatsServer) -> None:
    """Each update either is acknowledged and counts once, or fails with an error that says so."""
    with NatsServer(binary=server.process.command[0]) as own:
        async with SessionManager(dict[str, int], storage=open_storage(own.url)) as sessions:
            acknowledged = dict.fromkeys(map(str, range(10)), 0)
            unknown = dict.fromkeys(acknowledged, 0)
            begun = asyncio.Event()

            async def count_up(key: str) -> None:
                for _ in range(60):
                    try:
                        async with sessions.open(key) as s:
                            s.data["n"] = s.data.get("n", 0) + 1
                        acknowledged[key] += 1
                    except (StorageUnavailableError, SessionConflictError):
                        unknown[key] += 1
                    if sum(acknowledged.values()) > 100:
                        begun.set()

            counting = asyncio.gather(*(count_up(key) for key in acknowledged))
            await begun.wait()
            await asyncio.to_thread(own.restart)
            await counting
            for key, least in acknowledged.items():
                stored = await sessions.get(key)
                assert stored is not None
                assert least <= stored["n"] <= least + unknown[key]
            assert sum(acknowledged.values()) > 300


@pytest.mark.parametrize("hours", [-2, 2])
async def test_setting_the_clock_expires_no_session(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    real = time.time
    async with NatsStorage(server.url) as storage:
        await put(storage, "424242", b"1", ttl=60)
        monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
        assert await value_of(storage, "424242") == b"1"
        assert abs(storage.now() - real()) < 60


async def test_a_message_too_large_fails_its_own_key_only(storage: NatsStorage) -> None:
    assert storage._entries is not None
    bad = _calls.Request("$KV.sessions.bad", b"x" * 600_000, {"Long": "x" * 600_000})
    refused, answered = await storage._entries.calls.ask_all([bad, _calls.Request("$JS.API.INFO")])
    assert isinstance(refused, StorageError)
    assert not isinstance(answered, StorageError)
    assert isinstance((await storage.commit_many([Change("good", Action.PUT, b"1")]))[0], Committed)


# URLs


def test_without_the_driver_the_error_says_how_to_install_it() -> None:
    code = "import sys; sys.modules['nats'] = None; import chatsession.storages.nats"
    errors = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "ImportError: sessions in NATS need a driver: pip install 'chatsession[nats]'" in errors


def test_urls() -> None:
    assert repr(open_storage("nats://bot:pw@h:4222/b?replicas=3&retry_for=5")) == "<NatsStorage: h:4222, bucket 'b'>"
    assert repr(open_storage("nats://h")) == "<NatsStorage: h, bucket 'sessions'>"
    assert repr(open_storage("nats://bot:pw@a:1,[::1]/b")) == "<NatsStorage: a:1, [::1], bucket 'b'>"


@pytest.mark.parametrize("user", ["u@r", None], ids=["user", "token"])
async def test_credentials_in_urls_are_percent_decoded(user: str | None) -> None:
    secret = "p@ss/w:%41"
    users = f'user: "{user}", password: "{secret}"' if user else f'token: "{secret}"'
    login = f"{quote(user, '')}:{quote(secret, '')}" if user else quote(secret, "")
    with NatsServer(settings=[f"authorization: {{{users}}}"]) as server:
        for url in (f"nats://{login}@127.0.0.1:{server.port}", f"nats://{login}@127.0.0.1:1,127.0.0.1:{server.port}"):
            async with open_storage(url) as storage:
                await put(storage, "chat", b"1")


def test_a_storage_with_malformed_servers_is_refused() -> None:
    for servers in ("nats://h:port", ["nats://h", "h:99999"], "nats://", "nats://[", ""):
        with pytest.raises(StorageError, match="must name a server"):
            NatsStorage(servers)


async def test_an_empty_name_of_a_credentials_file_is_none(nats_server: NatsServer) -> None:
    async with NatsStorage(nats_server.url, credentials="") as storage:
        await put(storage, "chat", b"1")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nats:", "must name a server"),
        ("nats://h:port", "its port is a number"),
        ("nats://h:1,h:99999", "its port is a number"),
        ("nats://h,", "must name a server"),
        ("nats://h?credentials=", "cannot be read"),
        ("nats://h?credentials=/no/such/file", "cannot be read"),
        ("nats://h#x", "has a #"),
        ("nats://h/a/b", "letters, digits"),
        ("nats://h/a.b", "letters, digits"),
        ("nats://h?replicas=x", "replicas in the nats: URL must be a whole number"),
        ("nats://h?replicas=0", "whole number from 1 to 5"),
        ("nats://h?replicas=9", "whole number from 1 to 5"),
        ("nats://h?retry_for=x", "retry_for in the URL must be a positive number"),
        ("nats://h?retry_for=nan", "positive"),
        ("nats://h?sweep_interval=inf", "positive"),
        ("nats://h?single_process=maybe", "true or false"),
        ("nats://h?retry_for=0", "positive"),
        ("nats://h?password=x", "unknown"),
    ],
)
def test_wrong_urls(url: str, words: str) -> None:
    with pytest.raises(SessionError, match=words):
        open_storage(url)


async def test_a_lock_that_could_not_be_given_back_is_told() -> None:
    with NatsServer() as server:
        async with NatsStorage(server.url, retry_for=0.5) as storage:
            granted = request("chat")
            assert await try_lock(storage, granted) is not None
            server.process.kill()
            with pytest.raises(StorageUnavailableError):
                await storage.abandon_many([granted])

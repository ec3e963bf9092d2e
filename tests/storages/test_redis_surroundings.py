"""Redis: proxies, firewalls, sockets, access rules, clocks and neighbours."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from _proxy import CuttingProxy
from _redis_proxy import RedisProxy

from chatsession import SessionManager, open_storage
from chatsession.errors import StorageError
from chatsession.storages import Action, Change
from chatsession.storages.redis import RedisStorage
from chatsession.testing.conformance.single import lock, put, read, request, try_lock, value_of
from tools.servers.redis import RedisServer


@pytest.fixture
def server(redis_or_valkey: RedisServer) -> RedisServer:
    return redis_or_valkey


@pytest.fixture
async def storage(server: RedisServer) -> AsyncIterator[RedisStorage]:
    async with RedisStorage(server.url) as storage:
        yield storage


class ForgetfulProxy(RedisProxy):
    """Stands before servers that take turns: none of them knows a script by its digest."""

    asked = 0

    def seen(self, data: bytes) -> bytes:
        self.asked += data.count(b"EVALSHA")
        return re.sub(rb"(EVALSHA\r\n\$40\r\n)[0-9a-f]{40}", rb"\g<1>" + b"0" * 40, data)


class DeafProxy(CuttingProxy):
    """A firewall that forgets connections: it drops what comes on them, and lets new ones through."""

    forgotten = False

    def seen(self, data: bytes) -> bytes:
        return b"" if self.forgotten else data

    async def link(
        self,
        requests: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        self.forgotten = False
        await super().link(requests, client, answers, server)


async def use(storage: RedisStorage) -> None:
    """Every script once."""
    held = await lock(storage, "424242")
    waiting = request("424242")
    assert await try_lock(storage, waiting) is None
    assert await storage.renew_many([held.lease], 60.0) == [True]
    await storage.abandon_many([waiting])
    change = Change("424242", Action.PUT, b"1", lease=held.lease, unlock=True)
    await storage.commit_many([change])
    assert await value_of(storage, "424242") == b"1"


@pytest.mark.parametrize("forbidden", ["SCRIPT", "EVALSHA"])
async def test_a_server_that_does_not_know_a_script_command(forbidden: str) -> None:
    with RedisServer(arguments=("--rename-command", forbidden, "")) as server:
        async with RedisStorage(server.url) as storage:
            for _ in range(3):
                await use(storage)


async def test_servers_that_forget_scripts_are_sent_the_text(server: RedisServer) -> None:
    async with ForgetfulProxy(server.port) as proxy, RedisStorage(proxy.url) as storage:
        for _ in range(10):
            await use(storage)
        before = proxy.asked
        assert before
        for _ in range(10):
            await use(storage)
        assert proxy.asked == before, "it is not asked by digest for ever"


async def test_a_forgotten_connection_is_replaced_soon(server: RedisServer) -> None:
    async with DeafProxy(server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}?retry_for=5.5"  # less than one attempt on a busy connection may take
        async with RedisStorage(url) as storage:
            await put(storage, "424242", b"1")
            for link in storage._calls._free[""]:
                link.used -= 3600.0
            proxy.forgotten = True
            assert await value_of(storage, "424242") == b"1"
            assert proxy.connections == 2


async def test_an_idle_connection_is_kept_alive(storage: RedisStorage) -> None:
    await put(storage, "424242", b"1")
    (link, *_) = storage._calls._free[""]
    connected = link._transport.get_extra_info("socket")
    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 30


@pytest.mark.parametrize(("policy", "told"), [("allkeys-lru", True), ("volatile-ttl", True), ("noeviction", False)])
async def test_a_server_that_evicts_sessions_is_told(caplog: pytest.LogCaptureFixture, policy: str, told: bool) -> None:
    caplog.set_level(logging.WARNING, "chatsession")
    with RedisServer(arguments=("--maxmemory-policy", policy)) as server:
        async with RedisStorage(server.url):
            pass
    assert [policy in record.message and "noeviction" in record.message for record in caplog.records] == [True] * told


@pytest.mark.parametrize("scheme", ["unix", "redis+unix", "redis+socket"])
async def test_a_unix_socket(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(password="s3cr3t", arguments=("--unixsocket", str(path))) as server:
        async with open_storage(f"{scheme}://:s3cr3t@{path}?db=2") as storage:
            assert isinstance(storage, RedisStorage)
            await use(storage)
            assert "s3cr3t" not in repr(storage)
            assert str(path) in repr(storage)
        assert server.ask("-n", 2, "GET", "424242") == "1"
        with pytest.raises(StorageError, match="refused the user name or password") as caught:
            await RedisStorage(f"{scheme}://:wrong@{path}").open()
        with pytest.raises(StorageError, match="no database of that number"):
            await RedisStorage(f"{scheme}://:s3cr3t@{path}?db=99").open()
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("noted", [True, False], ids=["with the prefix noted", "without"])
async def test_access_to_one_prefix_is_enough(
    server: RedisServer, caplog: pytest.LogCaptureFixture, noted: bool
) -> None:
    where = "~bot:* ~!chatsession:* resetchannels &!chatsession:*" + " ~!prefix:bot:*" * noted
    what = "+@read +@write +@scripting +@pubsub +@connection +info +time"
    server.ask("ACL", "SETUSER", "bot", "on", ">secret", *where.split(), *what.split())
    url = server.url.replace("://", "://bot:secret@")
    try:
        storage = RedisStorage(url)
        async with SessionManager(int, storage=storage, prefix="bot:", ttl=1000) as sessions:
            for key in ("42", "{42}", "a}b"):
                assert await sessions.update(key, lambda count: count + 1) == 1
            server.ask("SET", "other:1", "1")
            keys = {key async for key in sessions.keys()}  # noqa: SIM118 - a manager is no dictionary
            assert keys == {"42", "{42}", "a}b"}
            with pytest.raises(StorageError, match="ACL"):
                await put(storage, "other:1", b"2")
        assert ("'bot:' could not be noted" in caplog.text) != noted
    finally:
        server.ask("ACL", "DELUSER", "bot")


@pytest.mark.parametrize("hours", [2, -2])
async def test_a_client_with_a_wrong_clock_keeps_time_to_live(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    right = time.time
    async with RedisStorage(server.url) as storage:
        await put(storage, "424242", b"1", ttl=1000)
        monkeypatch.setattr(time, "time", lambda: right() + 3600 * hours)
        record = await read(storage, "424242")
        assert record is not None
        assert record.expires_at is not None
        assert 900 < record.expires_at - storage.now() <= 1000.5


async def test_a_clock_that_is_set_meanwhile_changes_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = time.time
    async with SessionManager(int, storage=RedisStorage(server.url), ttl=1000) as sessions:
        await sessions.update("424242", lambda count: count + 1)
        monkeypatch.setattr(time, "time", lambda: right() + 7200)
        await sessions.rewrite()
        assert await sessions.update("424242", lambda count: count + 1) == 2
        assert 0 < int(server.ask("PTTL", "424242")) <= 1_000_000


@pytest.mark.parametrize("limit", [1, 8, 99, 150, 1000])
async def test_a_page_has_no_more_than_was_asked_for(storage: RedisStorage, limit: int) -> None:
    keys = {f"chat:{number}" for number in range(500)}
    for start in range(0, 500, 100):
        await storage.commit_many([Change(f"chat:{n}", Action.PUT, b"1") for n in range(start, start + 100)])
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await storage.scan("chat:", cursor, limit)
        assert len(page.entries) <= limit
        seen += [key for key, _ in page.entries]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted(keys)


async def test_no_key_is_missed_while_others_come_and_go(storage: RedisStorage) -> None:
    keys = {f"stays:{number}" for number in range(300)}
    for start in range(0, 300, 100):
        await storage.commit_many([Change(f"stays:{n}", Action.PUT, b"1") for n in range(start, start + 100)])
    seen: set[str] = set()
    cursor: str | None = None
    for number in range(10_000):
        found, cursor = await storage.scan_keys("", cursor, 7)
        seen.update(found)
        if cursor is None:
            break
        many = range(number * 20, number * 20 + 20)
        if number < 100:  # the table grows, and then shrinks again
            await storage.commit_many([Change(f"passes:{n}", Action.PUT, b"1") for n in many])
        elif number < 200:
            await storage.commit_many([Change(f"passes:{n - 2000}", Action.DELETE) for n in many])
    assert keys <= seen

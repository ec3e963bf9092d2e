"""PostgreSQL across event loops and forks, beside held rows, dead connections and wrong clocks."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from itertools import count
from typing import Any

import asyncpg
import pytest
from _pg_proxy import PgProxy

from chatsession import SessionManager, open_storage
from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages import Action, Change, Committed, Locked
from chatsession.storages.postgres import PostgresStorage, _locks, _wakeups
from chatsession.testing.conformance.single import lock, put, read, request, try_lock, value_of
from tools.servers.postgres import PgBouncer, PostgresServer

_tables = (f"lives_{number}" for number in count())


@pytest.fixture
def table() -> str:
    return next(_tables)


@pytest.fixture
async def storage(postgres_server: PostgresServer, table: str) -> AsyncIterator[PostgresStorage]:
    async with PostgresStorage(postgres_server.url, table=table) as storage:
        yield storage


class TestEventLoops:
    def test_a_second_loop_opens_the_storage_anew(self, postgres_server: PostgresServer, table: str) -> None:
        storage = PostgresStorage(postgres_server.url, table=table)

        async def use() -> bytes | None:
            await storage.open()
            record = await read(storage, "chat")
            await put(storage, "chat", b"1")
            await try_lock(storage, request("held"))
            await storage.wait_unlocked(request("held"), 0)  # listens on a connection of its own
            return None if record is None else record.value

        assert asyncio.run(use()) is None
        storage.forget(inherited=False)
        assert not storage.is_open
        assert asyncio.run(use()) == b"1"
        storage.forget(inherited=False)

    def test_a_forgotten_loop_leaves_no_connection(self, postgres_server: PostgresServer, table: str) -> None:
        storage = PostgresStorage(f"{postgres_server.url}?application_name={table}", table=table)

        async def use() -> None:
            await storage.open()
            await put(storage, "chat", b"1")
            await storage.wait_unlocked(request("chat"), 0)

        asyncio.run(use())
        storage.forget(inherited=False)
        backends = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{table}'"
        while postgres_server.psql(backends) != "0\n":
            pass

    def test_a_pool_of_another_loop_is_a_clear_error(self, postgres_server: PostgresServer, table: str) -> None:
        async def make() -> asyncpg.Pool[asyncpg.Record]:
            return await asyncpg.create_pool(postgres_server.url, min_size=0)

        storage = PostgresStorage(pool=asyncio.run(make()), table=table)
        with pytest.raises(StorageError, match="made in another event loop or process"):
            asyncio.run(storage.open())

    def test_forgetting_what_was_never_open(self) -> None:
        for inherited in (False, True):
            PostgresStorage("postgresql://db.example").forget(inherited=inherited)


class TestForks:
    async def test_a_child_leaves_the_parents_connections_alone(self, storage: PostgresStorage) -> None:
        await put(storage, "parent", b'"parent"')
        await storage.wait_unlocked(request("parent"), 0)  # listens from now on
        reading = [asyncio.create_task(value_of(storage, "parent")) for _ in range(3)]
        await asyncio.sleep(0)

        async def child() -> None:
            await storage.open()
            await put(storage, "child", b'"child"')
            assert await value_of(storage, "parent") == b'"parent"'
            await storage.close()

        await asyncio.to_thread(_wait, _fork(storage, child))
        assert await asyncio.gather(*reading) == [b'"parent"'] * 3
        connections = [*storage._database._connections._idle]  # type: ignore[union-attr] - it is open, with its own
        assert all(not connection.is_closed() for connection in connections)
        assert [await connection.fetchval("SELECT 1") for connection in connections] == [1] * len(connections)
        assert await value_of(storage, "child") == b'"child"'

    async def test_a_pool_of_the_parent_is_a_clear_error(self, postgres_server: PostgresServer, table: str) -> None:
        async with (
            asyncpg.create_pool(postgres_server.url, min_size=1, max_size=2) as pool,
            PostgresStorage(pool=pool, table=table) as storage,
        ):

            async def child() -> None:
                with pytest.raises(StorageError, match="made in another event loop or process"):
                    await storage.open()

            await asyncio.to_thread(_wait, _fork(storage, child))
            await put(storage, "chat", b"1")


class TestHeldRows:
    @pytest.mark.parametrize("rows", ["sessions", "leases"])
    async def test_a_held_row_fails_its_own_key_only(
        self, storage: PostgresStorage, postgres_server: PostgresServer, table: str, rows: str
    ) -> None:
        keys = [f"chat:{number}" for number in range(20)]
        leases = [(await lock(storage, key)).lease for key in keys]
        await storage.commit_many([Change(key, Action.PUT, b"1") for key in keys])
        held = table if rows == "sessions" else f"{table}_leases"
        holder = await asyncpg.connect(postgres_server.url)
        try:
            await holder.execute(f"BEGIN; SELECT FROM {held} WHERE key = 'chat:7' FOR UPDATE")
            changes = [Change(lease.key, Action.PUT, b"2", lease=lease) for lease in leases]
            outcomes = await storage.commit_many(changes)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            assert await holder.fetchval(waiting) == 0
        finally:
            await holder.close()
        failed = [key for key, outcome in zip(keys, outcomes, strict=True) if not isinstance(outcome, Committed)]
        assert failed == ["chat:7"]
        assert type(outcomes[7]) is StorageUnavailableError
        assert "another transaction" in str(outcomes[7])
        assert await value_of(storage, "chat:7") == b"1"
        assert await value_of(storage, "chat:8") == b"2"

    async def test_a_held_lease_fails_only_its_own_lock(
        self, storage: PostgresStorage, postgres_server: PostgresServer, table: str
    ) -> None:
        stuck, other = await lock(storage, "stuck"), await lock(storage, "other")
        holder = await asyncpg.connect(postgres_server.url)
        try:
            await holder.execute(f"BEGIN; SELECT FROM {table}_leases WHERE key = 'stuck' FOR UPDATE")
            locked = await storage.lock_many([request("stuck"), request("free")])
            assert type(locked[0]) is StorageUnavailableError
            assert isinstance(locked[1], Locked)
            assert await storage.renew_many([stuck.lease, other.lease], 60.0) == [False, True]
            with pytest.raises(StorageUnavailableError):
                await storage.abandon_many([request("stuck"), request("other")])
        finally:
            await holder.close()

    @pytest.mark.parametrize("rows", ["sessions", "leases"])
    async def test_neighbours_wait_for_a_held_row_once(
        self, storage: PostgresStorage, postgres_server: PostgresServer, table: str, rows: str
    ) -> None:
        """The first time, a held row costs its batch a moment; then its key travels apart."""
        held = table if rows == "sessions" else f"{table}_leases"
        backends = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        holder = await asyncpg.connect(postgres_server.url)
        async with SessionManager(int, storage=storage) as counters:
            try:
                for number in range(40):
                    await counters.update(f"chat:{number}", lambda count: count + 1)
                await holder.execute(f"BEGIN; SELECT FROM {held} WHERE key = 'chat:7' FOR UPDATE")
                with pytest.raises(StorageUnavailableError, match="another transaction"):
                    await counters.update("chat:7", lambda count: count + 1)
                stuck = asyncio.create_task(counters.update("chat:7", lambda count: count + 1))
                others = [counters.update(f"chat:{number}", lambda count: count + 1) for number in range(8, 40)]
                await asyncio.gather(*others)
                assert not stuck.done(), "they waited for a row that is known to be held"
                assert await holder.fetchval(backends) == 0
                with pytest.raises(StorageUnavailableError):
                    await stuck
            finally:
                await holder.close()
            while storage.lane_of("chat:7"):
                with suppress(StorageUnavailableError):
                    await counters.update("chat:7", lambda count: count + 1)

    async def test_a_held_row_of_grammys_table_fails_alone(self, postgres_server: PostgresServer, table: str) -> None:
        holder = await asyncpg.connect(postgres_server.url)
        async with PostgresStorage(postgres_server.url, table=table, layout="grammy") as storage:
            try:
                await storage.commit_many([Change(key, Action.PUT, b"1") for key in ("held", "free")])
                await holder.execute(f"BEGIN; SELECT FROM {table} WHERE key = 'held' FOR UPDATE")
                for _ in range(2):
                    outcomes = await storage.commit_many([Change(key, Action.PUT, b"2") for key in ("held", "free")])
                    assert [isinstance(outcome, Committed) for outcome in outcomes] == [False, True]
            finally:
                await holder.close()

    async def test_many_held_rows_leave_connections_for_others(
        self, storage: PostgresStorage, postgres_server: PostgresServer, table: str
    ) -> None:
        keys = [f"chat:{number:02}" for number in range(50)]
        await storage.commit_many([Change(key, Action.PUT, b"1") for key in keys])
        holder = await asyncpg.connect(postgres_server.url)
        try:
            await holder.execute(f"BEGIN; SELECT FROM {table} WHERE key < 'chat:40' FOR UPDATE")
            for _ in range(2):
                outcomes = await storage.commit_many([Change(key, Action.PUT, b"2") for key in keys])
                assert [isinstance(outcome, Committed) for outcome in outcomes] == [False] * 40 + [True] * 10
            stuck = asyncio.create_task(storage.commit_many([Change(key, Action.PUT, b"3") for key in keys[:40]]))
            await storage.commit_many([Change("chat:49", Action.PUT, b"3")])
            assert not stuck.done()
        finally:
            await holder.close()
        assert all(isinstance(outcome, Committed) for outcome in await stuck), "the rows became free meanwhile"

    async def test_a_row_that_is_being_inserted_fails_alone(
        self, storage: PostgresStorage, postgres_server: PostgresServer, table: str
    ) -> None:
        holder = await asyncpg.connect(postgres_server.url)
        try:
            await holder.execute(f"BEGIN; INSERT INTO {table} (key, data, version) VALUES ('new', '1', 1)")
            outcomes = await storage.commit_many([Change(key, Action.PUT, b"2") for key in ("a", "new", "z")])
        finally:
            await holder.close()
        assert [isinstance(outcome, Committed) for outcome in outcomes] == [True, False, True]


async def test_connections_forgotten_by_a_firewall(postgres_server: PostgresServer, table: str) -> None:
    """What was open is cut off without a word; new connections work."""
    async with PgProxy(postgres_server.url) as proxy, PostgresStorage(proxy.url, table=table, retry_for=60) as storage:
        await asyncio.gather(*(put(storage, f"chat:{number}", b"1") for number in range(8)))
        proxy.blackhole()
        started = time.monotonic()
        await asyncio.gather(*(put(storage, f"chat:{number}", b"2") for number in range(8)))
        assert time.monotonic() - started < storage._database._retry_for, "the bound of a call, for all of them"
        assert await value_of(storage, "chat:7") == b"2"


async def test_a_host_that_vanished_leaves_time_for_the_others(postgres_server: PostgresServer, table: str) -> None:
    async with PgProxy(postgres_server.url) as vanished:
        vanished.stalled = True
        host = f"127.0.0.1:{vanished.port}"
        url = postgres_server.url.replace("@", f"@{host},", 1)
        async with PostgresStorage(url, table=table, retry_for=6) as storage:
            await put(storage, "chat", b"1")
            tried = vanished.connections
            await asyncio.gather(*(put(storage, f"chat:{number}", b"1") for number in range(4)))
            assert vanished.connections == tried, "it is tried last from then on"


async def test_wakeups_forgotten_by_a_firewall(
    postgres_server: PostgresServer, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_wakeups, "_LONGEST_SILENCE", 0.0)
    monkeypatch.setattr(_locks, "_LONGEST_SLEEP", 3600.0)
    async with (
        asyncio.timeout(60),
        PgProxy(postgres_server.url) as proxy,
        PostgresStorage(postgres_server.url, table=table) as storage,
        PostgresStorage(proxy.url, table=table) as waiting,
    ):
        held, wanted = await lock(storage, "chat"), request("chat")
        assert await try_lock(waiting, wanted) is None
        await waiting.wait_unlocked(wanted, 0)  # listens from now on
        proxy.blackhole()
        await waiting.wait_unlocked(wanted, 1)  # listens again
        assert await try_lock(waiting, wanted) is None
        woken = asyncio.create_task(waiting.wait_unlocked(wanted, 2))
        await asyncio.sleep(0)
        await storage.commit_many([Change("chat", Action.PUT, b"1", None, lease=held.lease, unlock=True)])
        await woken
        assert await try_lock(waiting, wanted) is not None


class TestClocks:
    async def test_expiry_is_counted_by_the_servers_clock(
        self, storage: PostgresStorage, postgres_server: PostgresServer, table: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 7200)
        async with PostgresStorage(postgres_server.url, table=table) as ahead:
            assert abs(ahead.now() - real()) < 3600
            await put(storage, "chat", b"1", ttl=600)
            record = await read(ahead, "chat")
            assert record is not None
            assert record.expires_at is not None
            assert 0 < record.expires_at - ahead.now() <= 601
        assert ahead.now() >= 0

    async def test_waiting_for_very_long_does_not_overflow(self, postgres_server: PostgresServer, table: str) -> None:
        async with PostgresStorage(postgres_server.url, table=table, pooler=True) as storage:
            await storage.wait_unlocked(request("chat"), 100_000)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+asyncpg", "POSTGRES"])
async def test_other_schemes_of_the_same_url(postgres_server: PostgresServer, table: str, scheme: str) -> None:
    url = postgres_server.url.replace("postgresql:", f"{scheme}:", 1)
    async with open_storage(f"{url}?table={table}") as storage:
        await put(storage, "chat", b"1")
    if scheme.islower():
        async with PostgresStorage(url, table=table) as storage:
            assert await value_of(storage, "chat") == b"1"


async def test_a_pool_behind_pgbouncer_gets_a_hint(
    postgres_server: PostgresServer, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    with PgBouncer(postgres_server) as bouncer:
        async with asyncpg.create_pool(bouncer.url, min_size=2, max_size=4) as pool:
            with suppress(StorageError):
                await PostgresStorage(pool=pool, table=table).open()
            assert "statement_cache_size=0" in caplog.text
        caplog.clear()
        async with (
            asyncpg.create_pool(bouncer.url, min_size=0, max_size=4, statement_cache_size=0) as pool,
            PostgresStorage(pool=pool, table=table) as storage,
        ):
            await put(storage, "chat", b"1")
            assert "statement_cache_size" not in caplog.text


def _fork(storage: PostgresStorage, child: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run a coroutine in a forked child, in an event loop of its own, as the core does after a fork."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        asyncio.events._set_running_loop(None)
        storage.forget(inherited=True)
        asyncio.run(child())
        # What an interpreter does at its end, before the process is over:
        storage.__dict__.clear()
        import gc

        gc.collect()
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0

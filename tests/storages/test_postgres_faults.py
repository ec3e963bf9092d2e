"""What goes wrong with a PostgreSQL server, and on the way to it: clear errors, nothing lost, nothing made twice."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from itertools import count

import asyncpg
import pytest
from _pg_proxy import PgProxy

from chatsession import SessionManager
from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages import Action, Change, Committed, Locked, Refused, Storage
from chatsession.storages.postgres import PostgresStorage
from chatsession.testing.conformance.single import commit, lock, put, read, request, try_lock, unlock, value_of
from tools.servers._process import free_ports
from tools.servers.postgres import PostgresServer

_tables = (f"faults_{number}" for number in count())

SECRET = "s3cret-pw"


@pytest.fixture
def table() -> str:
    return next(_tables)


@pytest.fixture
async def proxy(postgres_server: PostgresServer) -> AsyncIterator[PgProxy]:
    async with PgProxy(postgres_server.url) as proxy:
        yield proxy


@pytest.fixture
async def storage(proxy: PgProxy, table: str) -> AsyncIterator[PostgresStorage]:
    async with PostgresStorage(proxy.url, table=table, retry_for=60) as storage:
        yield storage


@pytest.fixture(scope="module")
def mortal_server() -> Iterator[PostgresServer]:
    """One that tests may crash."""
    with PostgresServer() as server:
        yield server


@contextmanager
def hasty(storage: PostgresStorage, seconds: float = 1.0) -> Generator[None]:
    """Meanwhile it gives up soon; where it is to succeed, a busy machine needs its time."""
    calls = storage._database._calls
    assert calls is not None
    patient, calls._retry_for = calls._retry_for, seconds
    yield
    calls._retry_for = patient


async def refused(storage: Storage) -> StorageError:
    """The error of opening; it gives nothing away."""
    with pytest.raises(StorageError) as caught:
        await storage.open()
    await storage.close()
    assert not storage.is_open
    for text in (str(caught.value), repr(caught.value), repr(storage)):
        assert SECRET not in text
        assert "wrong-pw" not in text
    assert caught.value.__cause__ is None
    return caught.value


class TestAtTheStart:
    async def test_wrong_password(self, postgres_server: PostgresServer) -> None:
        error = await refused(PostgresStorage(postgres_server.url.replace(SECRET, "wrong-pw")))
        assert "the name or the password is wrong" in str(error)
        assert not isinstance(error, StorageUnavailableError)

    async def test_wrong_database(self, postgres_server: PostgresServer) -> None:
        error = await refused(PostgresStorage(postgres_server.url_of("nowhere")))
        assert "there is no database of that name" in str(error)

    async def test_no_server_listens(self) -> None:
        url = f"postgresql://chat:{SECRET}@127.0.0.1:{free_ports(1)[0]}/chat"
        error = await refused(PostgresStorage(url, retry_for=0.3))
        assert isinstance(error, StorageUnavailableError)
        assert "does the server run?" in str(error)

    async def test_a_server_that_starts_later(self, proxy: PgProxy) -> None:
        proxy.shut()
        storage = PostgresStorage(proxy.url)
        opening = asyncio.create_task(storage.open())
        await asyncio.wait([opening], timeout=0.1)
        await proxy.open()
        await opening
        assert storage.is_open
        await storage.close()

    async def test_unknown_host(self) -> None:
        error = await refused(PostgresStorage(f"postgresql://chat:{SECRET}@no-such-host.invalid/chat", retry_for=0.3))
        assert isinstance(error, StorageUnavailableError)

    async def test_malformed_url(self) -> None:
        error = await refused(PostgresStorage(f"postgresql://chat:{SECRET}@127.0.0.1:port/chat"))
        assert "is the URL" in str(error)

    @pytest.mark.parametrize("password", ["s3cret-pw", "p/s3cret-pw", "p?s3cret-pw", "s3cret-pw#x", "a@s3cret-pw"])
    def test_no_password_is_shown(self, password: str) -> None:
        for url in (f"postgresql://bot:{password}@db.example/bot", f"postgresql://db.example/bot?password={password}"):
            shown = repr(PostgresStorage(url))
            assert not set(re.findall(r"\w+", password)) & set(re.findall(r"\w+", shown)), shown

    async def test_a_server_that_says_nothing(self, proxy: PgProxy) -> None:
        proxy.stalled = True
        error = await refused(PostgresStorage(proxy.url, retry_for=0.3))
        assert isinstance(error, StorageUnavailableError)
        assert "did not answer in time" in str(error)

    async def test_too_old(self, proxy: PgProxy, postgres_server: PostgresServer) -> None:
        version = postgres_server.psql("SHOW server_version").strip().partition(".")[0]
        proxy.rewrite = f"server_version\0{version}.".encode(), b"server_version\x0011."
        error = await refused(PostgresStorage(proxy.url))
        assert "this is PostgreSQL 11, but sessions need 12 or newer" in str(error)

    async def test_a_replica(self, postgres_server: PostgresServer) -> None:
        with PostgresServer(primary=postgres_server) as replica:
            error = await refused(PostgresStorage(replica.url))
        assert "read-only replica" in str(error)

    async def test_read_only_transactions(self, postgres_server: PostgresServer) -> None:
        url = postgres_server.create_database("read_only")
        postgres_server.psql("ALTER DATABASE read_only SET default_transaction_read_only = on")
        assert "read-only" in str(await refused(PostgresStorage(url)))

    async def test_another_encoding(self, postgres_server: PostgresServer) -> None:
        postgres_server.psql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
        assert "ENCODING 'UTF8'" in str(await refused(PostgresStorage(postgres_server.url_of("latin"))))

    async def test_no_connection_left(self, postgres_server: PostgresServer) -> None:
        url = postgres_server.create_database("full")
        postgres_server.psql(
            "CREATE ROLE narrow LOGIN PASSWORD 'narrow-pw' CONNECTION LIMIT 0; GRANT ALL ON SCHEMA public TO narrow",
            "full",
        )
        error = await refused(PostgresStorage(re.sub("//.*@", "//narrow:narrow-pw@", url), retry_for=0.5))
        assert isinstance(error, StorageUnavailableError)
        assert "as many connections as it allows" in str(error)

    @pytest.mark.parametrize("number", ["connections", "retry_for", "sweep_interval", "time_to_live"])
    def test_numbers_that_are_not_positive(self, number: str) -> None:
        with pytest.raises(ValueError, match="must be positive"):
            PostgresStorage("postgresql://db.example", **{number: 0})  # type: ignore[arg-type] - any of them

    def test_without_asyncpg(self) -> None:
        program = "import sys; sys.modules['asyncpg'] = None; import chatsession.storages.postgres"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "ImportError: sessions in PostgreSQL need asyncpg: pip install 'chatsession[postgres]'" in done.stderr

    def test_neither_url_nor_pool(self) -> None:
        with pytest.raises(StorageError, match="need a URL or a pool"):
            PostgresStorage()


class TestACutConnection:
    """The marker travels in a value or a waiter's name, so that the proxy knows the very message."""

    @pytest.mark.parametrize("moment", ["cut_before", "cut_after"])
    async def test_a_commit_is_made_once(self, storage: PostgresStorage, proxy: PgProxy, moment: str) -> None:
        version = await put(storage, "chat", b"1")
        held = await lock(storage, "chat")
        setattr(proxy, moment, b"MARKER")
        outcome = await commit(storage, Change("chat", Action.PUT, b'"MARKER"', version, None, held.lease, True))
        assert proxy.cuts == 1
        assert isinstance(outcome, Committed)
        record = await read(storage, "chat")
        assert record is not None
        assert (record.value, record.version) == (b'"MARKER"', outcome.version)
        await unlock(storage, (await lock(storage, "chat")).lease)

    async def test_a_repeated_commit_keeps_later_changes(
        self, storage: PostgresStorage, proxy: PgProxy, postgres_server: PostgresServer, table: str
    ) -> None:
        """The answer to a blind write is lost, and another client writes before the client can ask again."""
        async with PostgresStorage(postgres_server.url, table=table) as other:
            proxy.cut_after = b"MARKER"
            first = asyncio.create_task(commit(storage, Change("chat", Action.PUT, b'"MARKER"')))
            while await read(other, "chat") is None:
                pass
            second = await commit(other, Change("chat", Action.PUT, b'"later"'))
            first_outcome = await first
        assert proxy.cuts == 1
        assert isinstance(first_outcome, Committed)
        assert isinstance(second, Committed)
        assert first_outcome.version != second.version
        assert await value_of(storage, "chat") == b'"later"', "the first commit was made twice"

    async def test_a_batch_with_refusals_keeps_its_outcomes(self, storage: PostgresStorage, proxy: PgProxy) -> None:
        version = await put(storage, "b", b"1")
        await put(storage, "c", b"1")
        proxy.cut_after = b"MARKER"
        outcomes = await storage.commit_many(
            [
                Change("a", Action.PUT, b'"MARKER"', None),
                Change("b", Action.DELETE, expect=version),
                Change("c", Action.PUT, b"2", None),
            ]
        )
        assert proxy.cuts == 1
        assert isinstance(outcomes[0], Committed)
        assert list(outcomes[1:]) == [Committed(None), Refused.CONFLICT]
        assert [await value_of(storage, key) for key in "abc"] == [b'"MARKER"', None, b"1"]

    @pytest.mark.parametrize("moment", ["cut_before", "cut_after"])
    async def test_a_lock_is_granted_once(self, storage: PostgresStorage, proxy: PgProxy, moment: str) -> None:
        setattr(proxy, moment, b"waiter-MARKER")
        wanted = request("chat")
        wanted = type(wanted)(wanted.key, "waiter-MARKER", wanted.seconds)
        locked = await try_lock(storage, wanted)
        assert proxy.cuts == 1
        assert isinstance(locked, Locked)
        outcome = await commit(storage, Change("chat", Action.PUT, b"1", None, None, locked.lease, True))
        assert isinstance(outcome, Committed)

    async def test_a_server_that_stops_answering(self, proxy: PgProxy, table: str) -> None:
        async with PostgresStorage(proxy.url, table=table) as storage:
            await put(storage, "chat", b"1")
            proxy.stalled = True
            with hasty(storage), pytest.raises(StorageUnavailableError, match="did not answer, for 1 s"):
                await read(storage, "chat")
            with hasty(storage), pytest.raises(StorageUnavailableError):
                await storage.commit_many([Change("chat", Action.PUT, b'"never shown"')])
            proxy.stalled = False
            assert await value_of(storage, "chat") == b"1"

    async def test_a_cancelled_call_leaves_a_working_storage(self, storage: PostgresStorage, proxy: PgProxy) -> None:
        await put(storage, "chat", b"1")
        proxy.stalled = True
        reading = asyncio.create_task(read(storage, "chat"))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        proxy.stalled = False
        assert await value_of(storage, "chat") == b"1"


async def test_a_pool_that_is_exhausted(postgres_server: PostgresServer, table: str) -> None:
    async with (
        asyncpg.create_pool(postgres_server.url, min_size=0, max_size=1) as pool,
        PostgresStorage(pool=pool, table=table) as storage,
    ):
        await put(storage, "chat", b"1")
        async with pool.acquire():
            with hasty(storage), pytest.raises(StorageUnavailableError, match="none of the pool became free"):
                await read(storage, "chat")
        assert await value_of(storage, "chat") == b"1"


async def test_tables_that_vanish(storage: PostgresStorage, postgres_server: PostgresServer, table: str) -> None:
    await put(storage, "chat", b"1")
    postgres_server.psql(f"DROP TABLE {table}")
    with pytest.raises(StorageError, match=r"is missing; apply the SQL that schema_sql\(\) gives"):
        await read(storage, "chat")


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_restarted_under_load(mortal_server: PostgresServer, table: str, mode: str) -> None:
    """Every update succeeds, or fails as unavailable; what succeeded is there, and once."""
    acknowledged = unknown = 0
    async with (
        PostgresStorage(mortal_server.url, table=table, retry_for=120) as storage,
        SessionManager(int, storage=storage, lock_timeout=300) as counters,
    ):
        stop = asyncio.Event()
        progress = asyncio.Condition()

        async def more(updates: int) -> None:
            goal = acknowledged + updates
            async with progress:
                await progress.wait_for(lambda: acknowledged >= goal)

        async def work(number: int) -> None:
            nonlocal acknowledged, unknown
            turn = 0
            while not stop.is_set():
                turn += 1
                try:
                    async with counters.open(f"chat:{(number * 7 + turn) % 30}") as session:
                        session.data += 1
                        await asyncio.sleep(0.001)
                    acknowledged += 1
                    async with progress:
                        progress.notify_all()
                except StorageUnavailableError:
                    unknown += 1

        workers = [asyncio.create_task(work(number)) for number in range(20)]
        for _ in range(2):
            await more(200)
            await asyncio.to_thread(mortal_server.restart, mode)  # type: ignore[arg-type] - one of its modes
        await more(200)
        stop.set()
        await asyncio.gather(*workers)
        total = sum([value async for _, value in counters.entries()])
    assert acknowledged <= total <= acknowledged + unknown
    assert unknown == 0, "the server was back long before the storage gave up"


class TestLeasesAfterACrash:
    @pytest.fixture
    async def storage(self, mortal_server: PostgresServer, table: str) -> AsyncIterator[PostgresStorage]:
        async with PostgresStorage(mortal_server.url, table=table, retry_for=60) as storage:
            yield storage

    async def crash(self, server: PostgresServer) -> None:
        await asyncio.to_thread(server.restart, "immediate")

    async def test_a_holder_still_commits(self, storage: PostgresStorage, mortal_server: PostgresServer) -> None:
        version = await put(storage, "chat", b"1")
        held = await lock(storage, "chat")
        await self.crash(mortal_server)
        outcome = await commit(storage, Change("chat", Action.PUT, b"2", version, None, held.lease, True))
        assert isinstance(outcome, Committed)
        await unlock(storage, (await lock(storage, "chat")).lease)

    async def test_tokens_grow(self, storage: PostgresStorage, mortal_server: PostgresServer) -> None:
        tokens: list[int] = []
        for _ in range(3):
            tokens.append((await lock(storage, "chat")).lease.token)
            await self.crash(mortal_server)
        assert tokens == sorted(set(tokens))

    async def test_a_holder_that_renews_keeps_others_out(
        self, storage: PostgresStorage, mortal_server: PostgresServer
    ) -> None:
        held = await lock(storage, "chat")
        await self.crash(mortal_server)
        assert await storage.renew_many([held.lease], 60.0) == [True]
        assert await try_lock(storage, request("chat")) is None

    async def test_a_holder_is_refused_once_another_has_come(
        self, storage: PostgresStorage, mortal_server: PostgresServer
    ) -> None:
        version = await put(storage, "chat", b"1")
        held = await lock(storage, "chat")
        await self.crash(mortal_server)
        newer = await lock(storage, "chat")
        late = Change("chat", Action.PUT, b"2", version, None, held.lease, True)
        assert await commit(storage, late) is Refused.LEASE_LOST
        assert await storage.renew_many([held.lease], 60.0) == [False]
        await unlock(storage, newer.lease)
        assert await commit(storage, late) is Refused.LEASE_LOST
        assert await value_of(storage, "chat") == b"1"

    async def test_a_blind_write_is_refused_after_a_crash(
        self, storage: PostgresStorage, mortal_server: PostgresServer
    ) -> None:
        held = await lock(storage, "chat")
        await self.crash(mortal_server)
        assert await commit(storage, Change("chat", Action.PUT, b"2", lease=held.lease)) is Refused.LEASE_LOST

    async def test_a_recovered_lease_covers_no_blind_write(
        self, storage: PostgresStorage, mortal_server: PostgresServer, table: str
    ) -> None:
        """Another took the key after the crash, stored a value, and its lease row was swept since."""
        held = await lock(storage, "chat")
        await self.crash(mortal_server)
        newer = await lock(storage, "chat")
        await commit(storage, Change("chat", Action.PUT, b'"acknowledged"', None, None, newer.lease, True))
        mortal_server.psql(f"DELETE FROM {table}_leases")
        await storage.renew_many([held.lease], 60.0)
        blind = Change("chat", Action.PUT, b'"late"', lease=held.lease)
        assert await commit(storage, blind) is Refused.LEASE_LOST
        assert await value_of(storage, "chat") == b'"acknowledged"'
        assert await commit(storage, Change("chat", Action.KEEP, lease=held.lease, unlock=True)) == Committed(
            (await read(storage, "chat")).version  # type: ignore[union-attr] - it was just there
        )

    async def test_the_newer_of_two_old_leases_is_recovered(
        self, storage: PostgresStorage, mortal_server: PostgresServer
    ) -> None:
        old = await lock(storage, "chat")
        await unlock(storage, old.lease)
        newer = await lock(storage, "chat")
        await self.crash(mortal_server)
        await storage.renew_many([old.lease], 60.0)
        assert await storage.renew_many([newer.lease], 60.0) == [True]
        assert await storage.renew_many([old.lease], 60.0) == [False]

    async def test_a_clean_restart_keeps_the_locks(
        self, storage: PostgresStorage, mortal_server: PostgresServer
    ) -> None:
        held = await lock(storage, "chat")
        await asyncio.to_thread(mortal_server.restart, "fast")
        assert await try_lock(storage, request("chat")) is None
        assert await storage.renew_many([held.lease], 60.0) == [True]

"""PostgreSQL passes the whole suite: directly, through PgBouncer, and in the user's own pool; and what is its own."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from itertools import count

import asyncpg
import pytest
from _pg_proxy import PgProxy

from chatsession import LazySessionFlavor, SessionManager, open_storage
from chatsession.errors import StorageError
from chatsession.storages import Action, Change, Committed, Locked, LockRequest
from chatsession.storages.postgres import PostgresStorage, _database, _locks
from chatsession.testing.conformance.single import delete, lock, put, read, request, scan_all_keys, try_lock, unlock
from chatsession.testing.storages import MakeStorage, StorageConformance
from tools.servers.postgres import PgBouncer, PostgresServer

_tables = (f"sessions_{number}" for number in count())


@pytest.fixture
def table() -> str:
    return next(_tables)


@pytest.fixture(scope="module")
def bouncer(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    with PgBouncer(postgres_server) as running:
        yield running


@pytest.fixture
async def pool(postgres_server: PostgresServer) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    pool = await asyncpg.create_pool(postgres_server.url, min_size=0, max_size=4)
    yield pool
    try:
        async with asyncio.timeout(60):  # a connection that was not given back would keep it open for ever
            await pool.close()
    except TimeoutError:
        pool.terminate()
        raise


@pytest.fixture
async def storage(postgres_server: PostgresServer, table: str) -> AsyncIterator[PostgresStorage]:
    async with PostgresStorage(postgres_server.url, table=table) as storage:
        yield storage


@pytest.fixture
async def other(
    postgres_server: PostgresServer, storage: PostgresStorage, table: str
) -> AsyncIterator[PostgresStorage]:
    async with PostgresStorage(postgres_server.url, table=table) as other:
        yield other


class TestPostgresStorage(StorageConformance):
    @pytest.fixture
    def make_storage(self, postgres_server: PostgresServer, table: str) -> MakeStorage:
        return lambda: PostgresStorage(postgres_server.url, table=table)


class TestThroughPgBouncer(StorageConformance):
    @pytest.fixture
    def make_storage(self, bouncer: PgBouncer, table: str) -> MakeStorage:
        return lambda: PostgresStorage(bouncer.url, table=table)


class TestInTheUsersPool(StorageConformance):
    @pytest.fixture
    def make_storage(self, pool: asyncpg.Pool[asyncpg.Record], table: str) -> MakeStorage:
        return lambda: PostgresStorage(pool=pool, table=table)


async def test_an_update_is_two_round_trips(postgres_server: PostgresServer, table: str) -> None:
    async with (
        PgProxy(postgres_server.url) as proxy,
        PostgresStorage(proxy.url, table=table) as storage,
        SessionManager(dict[str, int], storage=storage) as sessions,
    ):

        async def trips_of(key: str, *, change: bool) -> int:
            before = proxy.trips
            async with sessions.open(key) as session:
                if change:
                    session.data["count"] = session.data.get("count", 0) + 1
            return proxy.trips - before

        for change in (True, False):  # prepares the statements
            await trips_of("warm", change=change)
        assert [await trips_of("chat", change=True) for _ in range(5)] == [2] * 5
        assert [await trips_of("chat", change=False) for _ in range(5)] == [2] * 5
        before = proxy.trips
        results = await asyncio.gather(*(trips_of(f"chat-{n}", change=True) for n in range(200)))
        assert len(results) == 200
        assert proxy.trips - before < 100, "sessions that are open at the same time travel together"


async def test_lazy_and_untouched_costs_nothing(postgres_server: PostgresServer, table: str) -> None:
    async with (
        PgProxy(postgres_server.url) as proxy,
        PostgresStorage(proxy.url, table=table) as storage,
        SessionManager(dict[str, int], storage=storage, get_session_key=lambda _: "chat") as sessions,
    ):

        class Context(LazySessionFlavor[dict[str, int]]):
            pass

        async def handler() -> None:
            pass

        before = proxy.trips
        await sessions.lazy_middleware()(Context(), handler)
        assert proxy.trips == before


async def test_people_can_query_it(storage: PostgresStorage, postgres_server: PostgresServer, table: str) -> None:
    await put(storage, "424242", json.dumps({"count": 3, "name": "Маша"}).encode())
    await put(storage, "encrypted", b"\x80\0\xff")
    found = postgres_server.psql(f"SELECT key, data->>'name' FROM {table} WHERE (data->>'count')::int > 2")
    assert found == "424242|Маша\n"
    assert postgres_server.psql(f"SELECT raw FROM {table} WHERE key = 'encrypted'") == "\\x8000ff\n"


async def test_numbers_are_exact(storage: PostgresStorage) -> None:
    await put(storage, "key", b"[1.0, 0.1, 12345678901234567890123, 1e2, 1E400, -0.0]")
    record = await read(storage, "key")
    assert record is not None
    assert json.loads(record.value, parse_float=str) == ["1.0", "0.1", 12345678901234567890123, 100, 10**400, "0.0"]


async def test_batches_that_overlap_in_any_order_never_deadlock(
    storage: PostgresStorage, other: PostgresStorage, postgres_server: PostgresServer
) -> None:
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = postgres_server.psql(deadlocks)
    keys = [f"chat:{n}" for n in range(40)]

    async def work(each: PostgresStorage, number: int) -> None:
        shuffle = random.Random(number)
        for round_ in range(30):
            some = shuffle.sample(keys, 20)
            requests = [LockRequest(key, f"{number}-{round_}-{key}", 30.0) for key in some]
            leases = [locked.lease for locked in await each.lock_many(requests) if isinstance(locked, Locked)]
            changes = [Change(lease.key, Action.PUT, b"1", lease=lease, unlock=True) for lease in leases]
            free = [Change(key, Action.PUT, b"2") for key in shuffle.sample(keys, 10)]
            held = {change.key for change in changes}
            await asyncio.gather(
                each.commit_many(changes), each.commit_many([change for change in free if change.key not in held])
            )
            await each.abandon_many(requests)

    await asyncio.gather(*(work(each, 2 * n + i) for n in range(3) for i, each in enumerate((storage, other))))
    assert postgres_server.psql(deadlocks) == before


async def test_no_update_is_lost_where_transactions_see_one_moment(postgres_server: PostgresServer) -> None:
    """Under REPEATABLE READ a batch may fail because of others, and is then made again."""
    url = postgres_server.create_database("one_moment")
    postgres_server.psql("ALTER DATABASE one_moment SET default_transaction_isolation = 'repeatable read'")
    async with (
        PostgresStorage(url) as here,
        PostgresStorage(url) as there,
        SessionManager(int, storage=here) as a,
        SessionManager(int, storage=there) as b,
    ):
        await asyncio.gather(*(each.update("chat", _one_more) for each in (a, b) for _ in range(100)))
        assert await a.get("chat") == 200


async def test_a_waiter_is_woken(
    storage: PostgresStorage, other: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_locks, "_LONGEST_SLEEP", 3600.0)
    async with asyncio.timeout(60):
        for key in ("first", "second"):
            held = await lock(storage, key)
            wanted = request(key)
            assert await try_lock(other, wanted) is None
            waiting = asyncio.create_task(other.wait_unlocked(wanted, 0))
            if key == "first":
                await waiting  # begins to listen, and may have missed something
                assert await try_lock(other, wanted) is None
                waiting = asyncio.create_task(other.wait_unlocked(wanted, 1))
            await asyncio.sleep(0)
            await unlock(storage, held.lease)
            await waiting
            assert await try_lock(other, wanted) is not None


async def test_a_waiter_that_abandons_wakes_the_next(storage: PostgresStorage, other: PostgresStorage) -> None:
    held = await lock(storage, "chat")
    first, second = request("chat"), request("chat")
    assert [await try_lock(storage, first), await try_lock(other, second)] == [None, None]
    await unlock(storage, held.lease)
    assert await try_lock(other, second) is None, "another is before it"
    await storage.abandon_many([first])
    async with asyncio.timeout(60):
        await other.wait_unlocked(second, 0)
    assert await try_lock(other, second) is not None


async def test_sweeping_leaves_nothing_behind(
    storage: PostgresStorage, postgres_server: PostgresServer, table: str
) -> None:
    held = await lock(storage, "held")
    await unlock(storage, (await lock(storage, "free")).lease)
    await put(storage, "over", b"1", ttl=0.001)
    await put(storage, "stays", b"1", ttl=1000)
    postgres_server.psql(f"UPDATE {table}_leases SET until = until - interval '1 hour' WHERE key = 'free'")
    postgres_server.psql(f"UPDATE {table}_commits SET at = at - interval '1 hour'")
    swept = 0
    while not swept:  # it is over soon
        swept = await storage.sweep()
    assert postgres_server.psql(f"SELECT key FROM {table}") == "stays\n"
    assert postgres_server.psql(f"SELECT key FROM {table}_leases") == "held\n"
    assert postgres_server.psql(f"SELECT count(*) FROM {table}_commits") == "0\n"
    assert await storage.renew_many([held.lease], 60.0) == [True]


async def test_expired_sessions_go_away_by_themselves(postgres_server: PostgresServer, table: str) -> None:
    async with PostgresStorage(postgres_server.url, table=table, sweep_interval=0.05) as storage:
        await put(storage, "over", b"1", ttl=0.001)
        async with asyncio.timeout(60):
            while (await asyncio.to_thread(postgres_server.psql, f"SELECT count(*) FROM {table}")) != "0\n":
                pass


async def test_a_pool_of_the_user_stays_open(pool: asyncpg.Pool[asyncpg.Record], table: str) -> None:
    async with PostgresStorage(pool=pool, table=table) as storage:
        await put(storage, "chat", b"1")
        assert repr(storage) == f'<PostgresStorage: "public"."{table}" in the pool given>'
    assert await pool.fetchval(f"SELECT data FROM {table}") == "1"
    assert pool.get_idle_size() == pool.get_size(), "every connection was given back"


async def test_keys_that_cannot_be_indexed_are_stored_beside(
    storage: PostgresStorage, postgres_server: PostgresServer, table: str
) -> None:
    keys = ["a\0b", "\1", "\1" + "0" * 64, "x" * 2000, "x" * 2001, "й" * 1001, "🍕" * 300_000]
    for key in keys:
        await put(storage, key, json.dumps(key[:10]).encode())
    assert sorted(await scan_all_keys(storage)) == sorted(keys)
    assert await scan_all_keys(storage, prefix="a\0") == ["a\0b"]
    assert sorted(await scan_all_keys(storage, prefix="x", limit=1)) == sorted(["x" * 2000, "x" * 2001])
    assert postgres_server.psql(f"SELECT count(*) FROM {table} WHERE whole_key IS NOT NULL") == "6\n"
    await delete(storage, "a\0b")
    assert await read(storage, "a\0b") is None


async def test_a_url_with_options(postgres_server: PostgresServer, table: str) -> None:
    options = f"table={table}&connections=2&retry_for=5&time_to_live=60&application_name=pizza&pooler=no"
    url = f"{postgres_server.url}?{options}"
    async with open_storage(url) as storage:
        assert storage.time_to_live == 60
        outcomes = await storage.commit_many([Change("chat", Action.PUT, b"1")])
        assert isinstance(outcomes[0], Committed)
        assert postgres_server.psql("SELECT DISTINCT application_name FROM pg_stat_activity").count("pizza") == 1
        assert postgres_server.psql(f"SELECT key FROM {table}") == "chat\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("tabel=x", "options that are unknown"),
        ("table=x%22y", "table name"),
        ("connections=0", "connections in the URL must be a positive number"),
        ("connections=1.5", "connections in the URL must be a positive number"),
        ("retry_for=soon", "retry_for in the URL must be a positive number"),
        ("timeout=5", "it is named 'retry_for'"),
        ("sslmode=on", "sslmode in the URL must be one of disable"),
        ("target_session_attrs=rw", "target_session_attrs in the URL must be one of any"),
        ("port=many", "the port in the URL must be a number"),
        ("sslrootcert=/no/such/file", "sslrootcert in the URL names a file that is missing"),
        ("layout=grammar", "the layout of a table is one of"),
        ("create=perhaps", "create in the URL must be true or false"),
    ],
)
def test_a_url_with_wrong_options(options: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as caught:
        open_storage(f"postgresql://bot:s3cret@db.example/bot?{options}")
    assert "s3cret" not in str(caught.value)


def _one_more(count: int) -> int:
    return count + 1


async def test_it_closes_though_the_pool_cannot_reset_a_connection(
    postgres_server: PostgresServer, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = asyncio.Event()

    async def reset(_: object) -> None:
        if stuck.is_set():
            await asyncio.Event().wait()

    monkeypatch.setattr(_database, "_SECONDS_TO_RELEASE", 0.1)
    async with asyncpg.create_pool(postgres_server.url, min_size=0, max_size=4, reset=reset) as pool:
        storage = PostgresStorage(pool=pool, table=table)
        await storage.open()
        wakeups = storage._database.wakeups
        assert wakeups is not None
        assert await wakeups.start()
        stuck.set()
        async with asyncio.timeout(60):
            await storage.close()

"""grammY's table in PostgreSQL: the shared suite, and what is different where somebody else writes, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import asyncpg
import pytest

from chatsession import SessionManager, open_storage
from chatsession.errors import StorageError
from chatsession.storages import Action, Change, Committed, Refused
from chatsession.storages.postgres import PostgresStorage, grammy_schema_sql
from chatsession.testing.conformance.single import commit, lock, put, read, scan_all_keys, value_of
from chatsession.testing.storages import MakeStorage, StorageConformance
from tools.servers.postgres import PostgresServer

_tables = (f"grammy_{number}" for number in count())


@pytest.fixture
def table() -> str:
    return next(_tables)


@pytest.fixture
async def storage(postgres_server: PostgresServer, table: str) -> AsyncIterator[PostgresStorage]:
    async with PostgresStorage(postgres_server.url, layout="grammy", table=table) as storage:
        yield storage


@pytest.fixture
async def grammy(postgres_server: PostgresServer) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """What grammY's storage does, by its own statements."""
    connection = await asyncpg.connect(postgres_server.url)
    yield connection
    await connection.close()


class TestGrammyTable(StorageConformance):
    @pytest.fixture(autouse=True)
    def _text_only(self, request: pytest.FixtureRequest) -> None:
        if any(word in request.node.name for word in ("encrypt", "compression", "[all]", "rewriting_brings_all")):
            pytest.skip("grammY's table holds text, and nothing that was encrypted or compressed")

    @pytest.fixture
    def make_storage(self, postgres_server: PostgresServer, table: str) -> MakeStorage:
        return lambda: PostgresStorage(postgres_server.url, layout="grammy", table=table)


async def write(grammy: asyncpg.Connection[asyncpg.Record], table: str, key: str, value: str | None) -> None:
    await grammy.execute(
        f'INSERT INTO "{table}" (key, value) values ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2', key, value
    )


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(3000):
        if await holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came to that")


async def test_a_value_lies_in_the_table_as_it_is(
    storage: PostgresStorage, grammy: asyncpg.Connection[asyncpg.Record], table: str
) -> None:
    for value in ('{"b": 1e2,\n\t"a":"\\u0000"}', "plain", ""):
        await put(storage, "42", value.encode())
        assert await grammy.fetchval(f"SELECT value FROM {table} WHERE key = '42'") == value
        await write(grammy, table, "42", f" {value}")
        assert await value_of(storage, "42") == f" {value}".encode()
    await write(grammy, table, "42", None)
    assert await value_of(storage, "42") == b"null"


async def test_a_write_of_grammys_is_a_conflict_and_a_rewrite_of_the_same_is_none(
    storage: PostgresStorage, grammy: asyncpg.Connection[asyncpg.Record], table: str
) -> None:
    locked = await lock(storage, "42")
    await write(grammy, table, "42", "1")
    change = Change("42", Action.PUT, b"2", None, lease=locked.lease)
    assert await commit(storage, change) is Refused.CONFLICT
    record = await read(storage, "42")
    assert record is not None
    await write(grammy, table, "42", "1")
    assert type(await commit(storage, Change("42", Action.PUT, b"2", record.version, lease=locked.lease))) is Committed
    await write(grammy, table, "42", "3")
    assert await commit(storage, Change("42", Action.DELETE, b"", record.version)) is Refused.CONFLICT
    assert await value_of(storage, "42") == b"3"


async def test_no_insertion_of_grammys_is_overwritten_by_one_at_the_same_time(
    storage: PostgresStorage, grammy: asyncpg.Connection[asyncpg.Record], table: str
) -> None:
    """Ours has decided to insert, and waits for theirs to be committed."""
    transaction = grammy.transaction()
    await transaction.start()
    await write(grammy, table, "42", "1")
    ours = asyncio.create_task(commit(storage, Change("42", Action.PUT, b"2", None)))
    await until(lambda: grammy.fetchval("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"))
    await transaction.commit()
    assert await ours is Refused.CONFLICT
    assert await value_of(storage, "42") == b"1"


async def test_what_grammy_wrote_since_does_not_expire(
    storage: PostgresStorage, grammy: asyncpg.Connection[asyncpg.Record], table: str
) -> None:
    for key in ("written", "deleted", "left"):
        await put(storage, key, b"1", ttl=0.2)
    await write(grammy, table, "written", "1")
    await grammy.execute(f"DELETE FROM {table} WHERE key = 'deleted'")
    await write(grammy, table, "deleted", "1")

    async def is_over() -> bool:
        return await read(storage, "left") is None

    await until(is_over)
    assert await scan_all_keys(storage) == ["deleted", "written"]
    assert await storage.sweep() == 1
    assert await grammy.fetchval(f"SELECT count(*) FROM {table}") == 2
    assert await grammy.fetchval(f"SELECT count(*) FROM {table}_chatsession") == 0, "nothing is left beside it"


async def test_bytes_that_are_no_text_are_refused_and_their_lock_is_given_back(storage: PostgresStorage) -> None:
    for value in (b"\xff", b'"\0"'):
        locked = await lock(storage, "42")
        change = Change("42", Action.PUT, value, lease=locked.lease, unlock=True)
        error, other = await storage.commit_many([change, Change("43", Action.PUT, b"1")])
        assert isinstance(error, StorageError)
        assert error.key == "42"
        assert type(other) is Committed
    assert await read(storage, "42") is None
    await lock(storage, "42")


async def test_a_table_that_grammy_made_is_taken_over_with_all_that_is_in_it(
    postgres_server: PostgresServer, grammy: asyncpg.Connection[asyncpg.Record], table: str
) -> None:
    await grammy.execute(f'CREATE TABLE "{table}" ("key" VARCHAR NOT NULL, "value" TEXT)')
    await grammy.execute(f'CREATE UNIQUE INDEX IF NOT EXISTS IDX_{table} ON "{table}" ("key")')
    await write(grammy, table, "42", '{\n"count": 1}')
    async with (
        open_storage(f"{postgres_server.url}?layout=grammy&table={table}") as storage,
        SessionManager(dict[str, int], storage=storage) as sessions,
        sessions.open("42") as session,
    ):
        session.data["count"] += 1
    assert await grammy.fetchval(f"SELECT value FROM {table}") == '{"count":2}'
    assert await grammy.fetchval("SELECT count(*) FROM pg_indexes WHERE tablename = $1", table) == 2


async def test_other_tables_are_left_alone(
    postgres_server: PostgresServer, grammy: asyncpg.Connection[asyncpg.Record], table: str
) -> None:
    await grammy.execute(f'CREATE TABLE "{table}" (key text, value jsonb)')
    with pytest.raises(StorageError, match="not one of grammY's"):
        await PostgresStorage(postgres_server.url, layout="grammy", table=table).open()
    with pytest.raises(StorageError, match="layout"):
        open_storage(f"{postgres_server.url}?layout=telegraf")


async def test_its_keepers_are_told_of_grammys_own_table(storage: PostgresStorage) -> None:
    await put(storage, "42", b"1", ttl=0.001)
    await lock(storage, "43")
    facts = {fact.name: fact.value for fact in await storage.facts()}
    assert facts["table and indexes"] != "0 bytes"
    assert [held.key for held in await storage.list_locks("", 10)] == ["43"]

    async def is_counted() -> bool:
        return await storage.count_expired() == 1

    await until(is_counted)
    await storage.sweep()
    assert await storage.count_expired() == 0


async def test_the_tables_can_be_made_by_hand(postgres_server: PostgresServer, table: str) -> None:
    postgres_server.psql(grammy_schema_sql(table=table))
    async with PostgresStorage(postgres_server.url, layout="grammy", table=table, create=False) as storage:
        await put(storage, "42", b"1")
    postgres_server.psql(f"SELECT value FROM {table}")


async def test_a_lookup_in_a_large_table_uses_the_indexes(
    storage: PostgresStorage, grammy: asyncpg.Connection[asyncpg.Record], table: str
) -> None:
    await grammy.execute(f"INSERT INTO {table} SELECT n::text, '1' FROM generate_series(1, 2000) AS n")
    await put(storage, "42", b"2", ttl=100)
    await grammy.execute(f"ANALYZE {table}")
    await storage.read_many(["42"])
    before = await grammy.fetchval("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = $1", table)
    async with SessionManager(int, storage=storage) as sessions:
        for _ in range(5):
            async with sessions.open("42") as session:
                session.data += 1
    await storage.scan("4", None, 10)
    await storage.close()  # a connection that ends has told the statistics
    assert await grammy.fetchval("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = $1", table) == before

"""PostgreSQL with synchronous commits: sessions beside asyncpg alone, all in `jsonb` rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from benchmarks._chats import IN_FLIGHT, counted_up, in_batches, key_of, sessions_in
from benchmarks._group import Goal, Group, versions
from benchmarks._measure import Contender, Running, in_flight
from chatsession.storages.postgres import PostgresStorage
from chatsession.testing.servers.postgres import PostgresServer

_SETTINGS = {"fsync": "on", "synchronous_commit": "on"}
_CONNECTIONS = 10

OURS, OURS_ALONE = "chatsession, 200 in flight", "chatsession, 1 in flight"
BATCHES = "SELECT … ANY + upsert by unnest, 200 a batch"
STATEMENTS = f"asyncpg SELECT + upsert, pool of {_CONNECTIONS}, 200 in flight"
TWO_TRIPS = "asyncpg SELECT + upsert, 1 in flight"

_TABLE = "CREATE TABLE bench.pizzas (key text PRIMARY KEY, value jsonb NOT NULL)"
_READ = "SELECT value FROM bench.pizzas WHERE key = $1"
_READ_MANY = "SELECT key, value FROM bench.pizzas WHERE key = ANY ($1)"
_STORE = "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_WRITE = f"INSERT INTO bench.pizzas VALUES ($1, $2) {_STORE}"
_WRITE_MANY = f"INSERT INTO bench.pizzas SELECT * FROM unnest($1::text[], $2::jsonb[]) {_STORE}"


@contextmanager
def group() -> Iterator[Group]:
    """Starts the server that all share."""
    with PostgresServer(_SETTINGS) as server:
        yield Group(
            "PostgreSQL, 300 bytes, 1,000 chats, synchronous_commit=on, every commit awaited",
            [
                Contender(BATCHES, 10_000, lambda: batches(server)),
                Contender(OURS, 6_000, lambda: ours(server, IN_FLIGHT)),
                Contender(STATEMENTS, 2_000, lambda: statements(server, IN_FLIGHT)),
                Contender(TWO_TRIPS, 600, lambda: statements(server, 1)),
                Contender(OURS_ALONE, 600, lambda: ours(server, 1)),
            ],
            f"{versions('asyncpg')}, PostgreSQL {server.psql('SHOW server_version').split()[0]}",
            [
                Goal("speed against one statement at a time", OURS, STATEMENTS, at_least=2.5),
                Goal("one update in flight against two raw round trips", OURS_ALONE, TWO_TRIPS, at_most=1.4),
            ],
        )


@asynccontextmanager
async def ours(server: PostgresServer, flight: int) -> AsyncGenerator[Running]:
    _start_afresh(server)
    async with sessions_in(PostgresStorage(server.url, schema="bench"), flight) as running:
        yield running


@asynccontextmanager
async def batches(server: PostgresServer) -> AsyncGenerator[Running]:
    """The floor: 200 chats a statement, on one connection, no locks."""
    async with _pool(server, 1) as pool, pool.acquire() as connection:

        async def update(keys: list[str]) -> None:
            stored = dict(await connection.fetch(_READ_MANY, keys))
            await connection.execute(_WRITE_MANY, keys, [counted_up(stored.get(key)).decode() for key in keys])

        yield Running(lambda updates: in_batches(updates, update), lambda: _total(connection))


@asynccontextmanager
async def statements(server: PostgresServer, flight: int) -> AsyncGenerator[Running]:
    """What one would write by hand: a statement to read, a statement to write, no locks."""
    async with _pool(server, min(flight, _CONNECTIONS)) as pool:

        async def handle(number: int) -> None:
            key = key_of(number)
            async with pool.acquire() as connection:
                stored = await connection.fetchval(_READ, key)
                await connection.execute(_WRITE, key, counted_up(stored).decode())

        yield Running(lambda updates: in_flight(flight, updates, handle), lambda: _total(pool))


@asynccontextmanager
async def _pool(server: PostgresServer, connections: int) -> AsyncGenerator[asyncpg.Pool]:
    _start_afresh(server)
    async with asyncpg.create_pool(server.url, min_size=connections, max_size=connections) as pool:
        await pool.execute(_TABLE)
        yield pool


async def _total(database: asyncpg.Pool | asyncpg.Connection) -> int:
    return await database.fetchval("SELECT coalesce(sum((value ->> 'count')::int), 0) FROM bench.pizzas")


def _start_afresh(server: PostgresServer) -> None:
    server.psql("DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench; CHECKPOINT")

"""A hot chat: 200 updates are queued for one chat, and must be handled one after another."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

from chatsession.storages.postgres import PostgresStorage
from chatsession.storages.redis import RedisStorage
from chatsession.storages.sqlite import SQLiteStorage
from tools.benchmarks import postgres, redis, sqlite
from tools.benchmarks._aiogram import alone
from tools.benchmarks._chats import IN_FLIGHT, counted_up, key_of, sessions_in
from tools.benchmarks._group import Goal, Group, versions
from tools.benchmarks._measure import Contender, Done, Role, Running, in_flight
from tools.benchmarks._meters import Meter, redis_meter, sqlite_meter
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisServer

_LEASE = 30_000
"""Milliseconds for which a lock by hand is held at most."""

REDIS_OURS, REDIS_LOCK = "Redis, chatsession", "Redis, SET NX + GET + SET + DEL, in turn"
REDIS_POLLED = "Redis, SET NX tried every 50 ms + GET + SET + DEL"
AIOGRAM = "aiogram, no state"
AIOGRAM_ISOLATED = "Redis, aiogram + RedisStorage, RedisEventIsolation"
POSTGRES_OURS, POSTGRES_LOCK = "PostgreSQL, chatsession", "PostgreSQL, SELECT … FOR UPDATE + UPDATE, in turn"
POSTGRES_POOLED = f"PostgreSQL, SELECT … FOR UPDATE + UPDATE, pool of {postgres.CONNECTIONS}"
SQLITE_OURS, SQLITE_LOCK = "SQLite, chatsession", "SQLite, aiosqlite, BEGIN IMMEDIATE + SELECT + upsert + COMMIT"

_WHY = (
    "the session passes from one update to the next in this process, which saves the lock's round trips; what remains "
    "are the commits, which are durable before their updates are done"
)

_READ_LOCKED = f"{postgres.READ} FOR UPDATE"
_UPDATE = "UPDATE bench.pizzas SET value = $2 WHERE key = $1"


@contextmanager
def group() -> Generator[Group]:
    """Starts the servers that all share."""
    with RedisServer() as redis_server, postgres.metered_server() as (postgres_server, meter):
        yield Group(
            "A hot chat: 200 updates queued for one chat, 300 bytes, every commit awaited",
            [
                _contender(REDIS_OURS, lambda: redis_ours(redis_server), "ours"),
                _contender(REDIS_LOCK, lambda: redis_locked(redis_server, polled=False)),
                _contender(REDIS_POLLED, lambda: redis_locked(redis_server, polled=True)),
                _contender(AIOGRAM, lambda: alone(IN_FLIGHT), "floor"),
                _contender(AIOGRAM_ISOLATED, lambda: redis.aiogram_own(redis_server, isolated=True, chats=1)),
                _contender(POSTGRES_OURS, lambda: postgres_ours(postgres_server, meter), "ours"),
                _contender(POSTGRES_LOCK, lambda: postgres_locked(postgres_server, meter, 1)),
                _contender(POSTGRES_POOLED, lambda: postgres_locked(postgres_server, meter, postgres.CONNECTIONS)),
                _contender(SQLITE_OURS, sqlite_ours, "ours"),
                _contender(SQLITE_LOCK, sqlite_locked),
            ],
            f"{versions('redis', 'asyncpg', 'aiosqlite', 'aiogram')}, Redis {redis.version(redis_server)}, "
            f"PostgreSQL {postgres_server.psql('SHOW server_version').split()[0]}",
            [
                Goal(
                    "Redis: speed against a lock and two round trips each", REDIS_OURS, REDIS_LOCK, at_least=5, why=_WHY
                ),
                Goal("Redis: the same, of locks that are polled", REDIS_OURS, REDIS_POLLED, at_least=5, why=_WHY),
                Goal(
                    "Redis: speed against RedisEventIsolation",
                    REDIS_OURS,
                    (AIOGRAM_ISOLATED, AIOGRAM),
                    at_least=5,
                    why=_WHY,
                ),
                Goal("PostgreSQL: speed against a row lock each", POSTGRES_OURS, POSTGRES_LOCK, at_least=5, why=_WHY),
                Goal(
                    "PostgreSQL: the same, of several connections", POSTGRES_OURS, POSTGRES_POOLED, at_least=5, why=_WHY
                ),
                Goal("SQLite: speed against a transaction each", SQLITE_OURS, SQLITE_LOCK, at_least=5, why=_WHY),
            ],
            "“In turn”: the next update asks for the lock when the one before has given it back, so that nobody ever "
            "waits for it in vain; the best that a lock can do.",
        )


def _contender(name: str, setup: Callable[[], AbstractAsyncContextManager[Running]], role: Role = "peer") -> Contender:
    return Contender(name, lambda: queued(setup()), role, step=IN_FLIGHT, warm=IN_FLIGHT)


@asynccontextmanager
async def queued(contender: AbstractAsyncContextManager[Running]) -> AsyncGenerator[Running]:
    """Gives a contender 200 updates at once, and the next 200 when all of them are done."""
    async with contender as running:

        async def run(updates: int) -> Done:
            latencies: list[float] = []
            for _ in range(0, updates, IN_FLIGHT):
                latencies += (await running.run(IN_FLIGHT) or Done()).latencies
            return Done(latencies)

        yield Running(run, running.counted, running.meter)


@asynccontextmanager
async def redis_ours(server: RedisServer) -> AsyncGenerator[Running]:
    server.ask("FLUSHALL")
    async with sessions_in(RedisStorage(server.url), IN_FLIGHT, redis_meter(server), chats=1) as running:
        yield running


@asynccontextmanager
async def redis_locked(server: RedisServer, *, polled: bool) -> AsyncGenerator[Running]:
    """What one would write by hand: a lock by SET NX, the value read, the value written, the lock deleted."""
    async with redis.client(server, redis.CONNECTIONS if polled else 1) as client:
        key = key_of(0)

        async def handle(number: int) -> None:
            while not await client.set("lock", number, nx=True, px=_LEASE):  # noqa: ASYNC110 - as locks by hand do
                await asyncio.sleep(0.05)
            await client.set(key, counted_up(await client.get(key)))
            await client.delete("lock")

        flight = IN_FLIGHT if polled else 1
        yield Running(
            lambda updates: in_flight(flight, updates, handle), lambda: redis.total_in(client), redis_meter(server)
        )


@asynccontextmanager
async def postgres_ours(server: PostgresServer, meter: Meter) -> AsyncGenerator[Running]:
    postgres.start_afresh(server)
    async with sessions_in(PostgresStorage(server.url, schema="bench"), IN_FLIGHT, meter, chats=1) as running:
        yield running


@asynccontextmanager
async def postgres_locked(server: PostgresServer, meter: Meter, connections: int) -> AsyncGenerator[Running]:
    """What one would write by hand: the row locked and read, then written, in a transaction."""
    async with postgres.pool_on(server, connections) as pool:
        key = key_of(0)
        await pool.execute(postgres.WRITE, key, counted_up(None).decode())

        async def handle(_: int) -> None:
            async with pool.acquire() as connection, connection.transaction():
                stored = await connection.fetchval(_READ_LOCKED, key)
                await connection.execute(_UPDATE, key, counted_up(stored).decode())

        flight = 1 if connections == 1 else IN_FLIGHT
        yield Running(lambda updates: in_flight(flight, updates, handle), lambda: postgres.total_in(pool), meter)


@asynccontextmanager
async def sqlite_ours() -> AsyncGenerator[Running]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bot.db")
        storage = SQLiteStorage(path, synchronous=sqlite.SYNCHRONOUS)
        async with sessions_in(storage, IN_FLIGHT, sqlite_meter(path), chats=1) as running:
            yield running


@asynccontextmanager
async def sqlite_locked() -> AsyncGenerator[Running]:
    """What one would write by hand: a transaction, which is SQLite's lock, for each update."""
    async with sqlite.opened_by_aiosqlite() as (connection, path):

        async def handle(_: int) -> None:
            await sqlite.count_up(connection, key_of(0))

        yield Running(
            lambda updates: in_flight(1, updates, handle), lambda: sqlite.total_in(connection), sqlite_meter(path)
        )

"""PostgreSQL with synchronous commits: sessions beside asyncpg alone, all in `jsonb` rows."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path

import asyncpg
import uvloop

from chatsession.storages.postgres import PostgresStorage
from tools.benchmarks import _aiogram
from tools.benchmarks._chats import CHATS, IN_FLIGHT, counted_up, in_batches, key_of, sessions_in
from tools.benchmarks._group import Goal, Group, no_slower, versions
from tools.benchmarks._measure import Contender, Done, Running, in_flight
from tools.benchmarks._meters import POSTGRES_SETTINGS, Meter, cpu_of_children, postgres_meter
from tools.benchmarks._pizza import Pizza
from tools.servers.postgres import PostgresServer

CONNECTIONS = 10

OURS, OURS_ALONE = "chatsession, 200 in flight", "chatsession, 1 in flight"
KEEPING, KEEPING_ALONE = (
    "chatsession, single_process=True, 200 in flight",
    "chatsession, single_process=True, 1 in flight",
)
BATCHES = "SELECT … ANY + upsert by unnest, 200 a batch"
STATEMENTS = f"asyncpg SELECT + upsert, pool of {CONNECTIONS}, 200 in flight"
TWO_TRIPS = "asyncpg SELECT + upsert, 1 in flight"
AIOGRAM, AIOGRAM_OURS = "aiogram, no state, 200 in flight", "aiogram + chatsession"
AIOGRAM_KEEPING = "aiogram + chatsession, single_process=True"
TOOL = f"pgbench SELECT + UPDATE, {CONNECTIONS} clients"

_TABLE = "CREATE TABLE bench.pizzas (key text PRIMARY KEY, value jsonb NOT NULL)"
READ = "SELECT value FROM bench.pizzas WHERE key = $1"
READ_MANY = "SELECT key, value FROM bench.pizzas WHERE key = ANY ($1)"
_STORE = "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
WRITE = f"INSERT INTO bench.pizzas VALUES ($1, $2) {_STORE}"
_WRITE_MANY = f"INSERT INTO bench.pizzas SELECT * FROM unnest($1::text[], $2::jsonb[]) {_STORE}"
_SCRIPT = rf"""\set chat random(0, {CHATS - 1})
SELECT value FROM bench.pizzas WHERE key = (:chat)::text;
UPDATE bench.pizzas SET value = jsonb_set(value, '{{count}}', to_jsonb((value ->> 'count')::int + 1))
    WHERE key = (:chat)::text;
"""


@contextmanager
def group() -> Generator[Group]:
    """Starts the server that all share."""
    with metered_server() as (server, meter):
        yield Group(
            "PostgreSQL, 300 bytes, 1,000 chats, synchronous_commit=on, every commit awaited",
            [
                Contender(BATCHES, lambda: batches(server, meter), "floor", step=IN_FLIGHT),
                Contender(TOOL, lambda: by_pgbench(server), "floor", step=CONNECTIONS, warm=0),
                Contender(OURS, lambda: ours(server, meter, IN_FLIGHT), "ours"),
                Contender(
                    f"{OURS}, uvloop", lambda: ours(server, meter, IN_FLIGHT), "ours", loop=uvloop.new_event_loop
                ),
                Contender(KEEPING, lambda: ours(server, meter, IN_FLIGHT, single_process=True), "ours"),
                Contender(STATEMENTS, lambda: statements(server, meter, IN_FLIGHT)),
                Contender(TWO_TRIPS, lambda: statements(server, meter, 1)),
                Contender(OURS_ALONE, lambda: ours(server, meter, 1), "ours"),
                Contender(KEEPING_ALONE, lambda: ours(server, meter, 1, single_process=True), "ours"),
                Contender(AIOGRAM, lambda: _aiogram.alone(IN_FLIGHT), "floor"),
                Contender(AIOGRAM_OURS, lambda: aiogram_ours(server, meter), "ours", AIOGRAM, least=CHATS),
                Contender(
                    AIOGRAM_KEEPING,
                    lambda: aiogram_ours(server, meter, single_process=True),
                    "ours",
                    AIOGRAM,
                    least=CHATS,
                ),
            ],
            f"{versions('asyncpg', 'aiogram', 'uvloop')}, PostgreSQL {server.psql('SHOW server_version').split()[0]}",
            [
                Goal(
                    "speed against batches of 200 by ANY and unnest",
                    OURS,
                    BATCHES,
                    at_least=0.5,
                    why="the floor locks nothing and checks nothing; sessions write a lock and the value, both in the "
                    "same batches",
                ),
                Goal(
                    "the same of a bot in one process (single_process=True)",
                    KEEPING,
                    BATCHES,
                    at_least=0.5,
                    why="a busy chat's lock is kept, so that only the commit travels; it is fenced and compared",
                ),
                Goal("speed against one statement at a time", OURS, STATEMENTS, at_least=2.5),
                no_slower(
                    OURS_ALONE,
                    TWO_TRIPS,
                    "two round trips each; ours also write and fence a lock in the first, which is a write more",
                ),
                no_slower(KEEPING_ALONE, TWO_TRIPS, "it locks nothing"),
                Goal("what it adds to aiogram", (AIOGRAM_OURS, AIOGRAM), AIOGRAM, at_most=2.0),
                Goal(
                    "the same of a bot in one process (single_process=True)",
                    (AIOGRAM_KEEPING, AIOGRAM),
                    AIOGRAM,
                    at_most=2.0,
                ),
            ],
            times=2,
        )


@contextmanager
def metered_server() -> Generator[tuple[PostgresServer, Meter]]:
    """A server that tells what it did."""
    with PostgresServer(POSTGRES_SETTINGS) as server:
        server.psql("CREATE EXTENSION pg_stat_statements")
        yield server, postgres_meter(server)


def ours(
    server: PostgresServer, meter: Meter, flight: int, *, single_process: bool = False
) -> AbstractAsyncContextManager[Running]:
    return sessions_in(_empty_storage(server, single_process), flight, meter)


def aiogram_ours(
    server: PostgresServer, meter: Meter, *, single_process: bool = False
) -> AbstractAsyncContextManager[Running]:
    """aiogram with our sessions: exclusive, fenced."""
    return _aiogram.with_sessions(_empty_storage(server, single_process), IN_FLIGHT, meter)


def _empty_storage(server: PostgresServer, single_process: bool) -> PostgresStorage:
    start_afresh(server)
    return PostgresStorage(server.url, schema="bench", single_process=single_process)


@asynccontextmanager
async def batches(server: PostgresServer, meter: Meter) -> AsyncGenerator[Running]:
    """The floor: 200 chats a statement, on one connection, no locks."""
    async with pool_on(server, 1) as pool:

        async def update(keys: list[str]) -> None:
            stored = dict(await pool.fetch(READ_MANY, keys))
            await pool.execute(_WRITE_MANY, keys, [counted_up(stored.get(key)).decode() for key in keys])

        yield Running(lambda updates: in_batches(updates, update), lambda: total_in(pool), meter)


@asynccontextmanager
async def by_pgbench(server: PostgresServer) -> AsyncGenerator[Running]:
    """The server's own tool: the value read, and counted up in the database; two commits, no locks."""
    async with pool_on(server, 1) as pool:
        rows = [(str(chat), json.dumps(asdict(Pizza()))) for chat in range(CHATS)]
        await pool.executemany(WRITE, rows)

        async def run(updates: int) -> Done:
            return await asyncio.to_thread(_pgbench, server, updates)

        yield Running(run, lambda: total_in(pool), postgres_meter(server, wired=False))


def _pgbench(server: PostgresServer, updates: int) -> Done:
    before = cpu_of_children()
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(_SCRIPT)
        script.flush()
        output = server.run(
            *("pgbench", "-n", "-M", "prepared", "-c", str(CONNECTIONS), "-t", str(updates // CONNECTIONS)),
            *("-f", str(Path(script.name)), server.url),
        )
    found = re.search(r"^tps = ([\d.]+)", output, re.MULTILINE)
    assert found, output
    return Done(seconds=updates / float(found[1]), cpu=cpu_of_children() - before)


@asynccontextmanager
async def statements(server: PostgresServer, meter: Meter, flight: int) -> AsyncGenerator[Running]:
    """What one would write by hand: a statement to read, a statement to write, no locks."""
    async with pool_on(server, min(flight, CONNECTIONS)) as pool:

        async def handle(number: int) -> None:
            key = key_of(number)
            async with pool.acquire() as connection:
                stored = await connection.fetchval(READ, key)
                await connection.execute(WRITE, key, counted_up(stored).decode())

        yield Running(lambda updates: in_flight(flight, updates, handle), lambda: total_in(pool), meter)


@asynccontextmanager
async def pool_on(server: PostgresServer, connections: int) -> AsyncGenerator[asyncpg.Pool]:
    """asyncpg on an empty table of pizzas."""
    start_afresh(server)
    async with asyncpg.create_pool(server.url, min_size=connections, max_size=connections, reset=_as_it_is) as pool:
        await pool.execute(_TABLE)
        yield pool


async def _as_it_is(_: object) -> None:
    """Spares asyncpg a round trip to reset the connection, which nobody has changed."""


async def total_in(pool: asyncpg.Pool) -> int:
    """How many updates have been counted in all."""
    total: int = await pool.fetchval("SELECT coalesce(sum((value ->> 'count')::int), 0) FROM bench.pizzas")
    return total


def start_afresh(server: PostgresServer) -> None:
    """Leave nothing of what was there."""
    server.psql("DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench; CHECKPOINT")

"""Large sessions: histories of a language model, changed by every update, beside decoding and encoding alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager

from chatsession import MemoryStorage, SessionManager, Storage
from chatsession.storages.postgres import PostgresStorage
from chatsession.storages.redis import RedisStorage
from tools.benchmarks import postgres, redis
from tools.benchmarks._chats import IN_FLIGHT
from tools.benchmarks._group import Goal, Group, server_of, versions
from tools.benchmarks._history import History, ask, asked, decode, encode, history_of
from tools.benchmarks._measure import Contender, Running, in_flight
from tools.benchmarks._meters import Meter, redis_meter
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisServer

CHATS = {10_000: IN_FLIGHT, 300_000: 40}
"""How many chats have sessions of so many bytes; all of them are in flight at the same time."""

CODEC, MEMORY = "decode + encode", "memory, chatsession"
COMPRESSED = ", compressed"
REDIS_FLOOR, REDIS_OURS = "Redis, decode + encode + MGET + MSET", "Redis, chatsession"
POSTGRES_FLOOR, POSTGRES_OURS = "PostgreSQL, decode + encode + ANY + unnest", "PostgreSQL, chatsession"

_COMPRESS_FROM = 2_000
_WRITE_MANY = (
    "UPDATE bench.pizzas AS p SET value = c.value FROM unnest($1::text[], $2::jsonb[]) AS c (key, value) "
    "WHERE p.key = c.key"
)


@contextmanager
def group() -> Generator[Group]:
    """Starts the servers that all share."""
    with RedisServer() as redis_server, postgres.metered_server() as (postgres_server, meter):
        yield Group(
            "Large sessions: histories, to which every update adds a message; 200 chats of 10 KB, 40 of 300 KB",
            [each for size in CHATS for each in _contenders(size, redis_server, postgres_server, meter)],
            f"{versions('msgspec', 'redis', 'asyncpg')}, Redis {redis.version(redis_server)}, "
            f"PostgreSQL {postgres_server.psql('SHOW server_version').split()[0]}",
            [goal for size in CHATS for goal in _goals(size)],
            times=2,
        )


def _contenders(
    size: int, redis_server: RedisServer, postgres_server: PostgresServer, meter: Meter
) -> Sequence[Contender]:
    def contender(name: str, setup: Callable[[], AsyncGenerator[Running]], *, floor: bool = False) -> Contender:
        return Contender(
            named(name, size),
            asynccontextmanager(setup),
            "floor" if floor else "ours",
            step=CHATS[size],
            least=CHATS[size],
            warm=CHATS[size],
        )

    return [
        contender(CODEC, lambda: codec(size), floor=True),
        contender(MEMORY, lambda: ours(MemoryStorage(), size)),
        contender(REDIS_FLOOR, lambda: redis_floor(redis_server, size), floor=True),
        contender(REDIS_OURS, lambda: redis_ours(redis_server, size)),
        contender(REDIS_OURS + COMPRESSED, lambda: redis_ours(redis_server, size, _COMPRESS_FROM)),
        contender(POSTGRES_FLOOR, lambda: postgres_floor(postgres_server, meter, size), floor=True),
        contender(POSTGRES_OURS, lambda: postgres_ours(postgres_server, meter, size)),
        contender(POSTGRES_OURS + COMPRESSED, lambda: postgres_ours(postgres_server, meter, size, _COMPRESS_FROM)),
    ]


def named(name: str, size: int) -> str:
    """The row of a contender."""
    return f"{name}, {size:,} bytes"


def _goals(size: int) -> Sequence[Goal]:
    pairs = [
        (MEMORY, CODEC, 1.6),
        (REDIS_OURS, REDIS_FLOOR, 1.3),
        (POSTGRES_OURS, POSTGRES_FLOOR, 1.5),
    ]
    times = [
        Goal(f"time against its floor: {named(ours, size)}", named(ours, size), named(floor, size), at_most=most)
        for ours, floor, most in pairs
    ]
    servers = [
        Goal(
            f"the server's processor against its floor: {named(ours, size)}",
            server_of(named(ours, size)),
            server_of(named(floor, size)),
            at_most=1.5,
        )
        for ours, floor, _ in pairs[1:]
    ]
    return times + servers


async def codec(size: int) -> AsyncGenerator[Running]:
    """The floor of all: each history is decoded, changed and encoded."""
    stored = {chat: encode(history_of(size)()) for chat in range(CHATS[size])}

    async def update(chats: Sequence[int]) -> None:
        for chat in chats:
            stored[chat] = asked(stored[chat])

    async def counted() -> int:
        return sum(decode(each).count for each in stored.values())

    yield Running(lambda updates: _in_batches(updates, size, update), counted)


async def ours(
    storage: Storage, size: int, meter: Meter | None = None, compression: int | None = None
) -> AsyncGenerator[Running]:
    async with SessionManager(history_of(size), type=History, storage=storage, compression=compression) as sessions:

        async def handle(number: int) -> None:
            async with sessions.open(number % CHATS[size]) as s:
                ask(s.data)

        async def counted() -> int:
            return sum([history.count async for _, history in sessions.entries()])

        yield Running(lambda updates: in_flight(CHATS[size], updates, handle), counted, meter)


async def redis_floor(server: RedisServer, size: int) -> AsyncGenerator[Running]:
    """What one would write by hand: all chats in one round trip, on one connection, no locks."""
    async with redis.client(server, 1) as client:
        keys = [str(chat) for chat in range(CHATS[size])]
        await client.mset(dict.fromkeys(keys, encode(history_of(size)())))

        async def update(chats: Sequence[int]) -> None:
            names = [keys[chat] for chat in chats]
            await client.mset(dict(zip(names, map(asked, await client.mget(names)), strict=True)))

        async def counted() -> int:
            return sum(decode(each).count for each in await client.mget(keys))

        yield Running(lambda updates: _in_batches(updates, size, update), counted, redis_meter(server))


async def redis_ours(server: RedisServer, size: int, compression: int | None = None) -> AsyncGenerator[Running]:
    server.ask("FLUSHALL")
    async for running in ours(RedisStorage(server.url), size, redis_meter(server), compression):
        yield running


async def postgres_floor(server: PostgresServer, meter: Meter, size: int) -> AsyncGenerator[Running]:
    """What one would write by hand: all chats in one statement, on one connection, no locks."""
    async with postgres.pool_on(server, 1) as pool:
        keys, text = [str(chat) for chat in range(CHATS[size])], encode(history_of(size)()).decode()
        for key in keys:
            await pool.execute(postgres.WRITE, key, text)

        async def update(chats: Sequence[int]) -> None:
            names = [keys[chat] for chat in chats]
            stored = dict(await pool.fetch(postgres.READ_MANY, names))
            await pool.execute(_WRITE_MANY, names, [asked(stored[name]).decode() for name in names])

        yield Running(lambda updates: _in_batches(updates, size, update), lambda: postgres.total_in(pool), meter)


async def postgres_ours(
    server: PostgresServer, meter: Meter, size: int, compression: int | None = None
) -> AsyncGenerator[Running]:
    postgres.start_afresh(server)
    async for running in ours(PostgresStorage(server.url, schema="bench"), size, meter, compression):
        yield running


async def _in_batches(updates: int, size: int, update: Callable[[Sequence[int]], Awaitable[None]]) -> None:
    for _ in range(0, updates, CHATS[size]):
        await update(range(CHATS[size]))

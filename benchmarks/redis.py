"""Redis without persistence: sessions beside redis-py alone, and beside aiogram's own storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

import msgspec
from aiogram import Dispatcher
from aiogram.fsm.context import FSMContext
from aiogram.fsm.storage.memory import DisabledEventIsolation
from aiogram.fsm.storage.redis import RedisStorage as AiogramStorage
from aiogram.types import Message
from redis.asyncio import BlockingConnectionPool, Redis

from benchmarks import _aiogram
from benchmarks._chats import CHATS, IN_FLIGHT, counted_up, in_batches, key_of, sessions_in, total, total_of
from benchmarks._group import Goal, Group, versions
from benchmarks._measure import Contender, Running, in_flight
from benchmarks._pizza import Pizza
from chatsession import SessionManager
from chatsession.storages.redis import RedisStorage
from chatsession.testing.servers.redis import RedisServer

_CONNECTIONS = 50
"""Of redis-py's pool; its speed is the same from 20 to 200, and without a limit it fails."""

OURS, OURS_ALONE = "chatsession, 200 in flight", "chatsession, 1 in flight"
BATCHES, COMMANDS = "MGET + MSET, 200 a batch", "redis-py GET + SET, 200 in flight"
TWO_TRIPS = "redis-py GET + SET, 1 in flight"
AIOGRAM, AIOGRAM_OURS = "aiogram, no state, 200 in flight", "aiogram + chatsession"
AIOGRAM_FREE, AIOGRAM_ISOLATED = "aiogram + RedisStorage", "aiogram + RedisStorage, RedisEventIsolation"


@contextmanager
def group() -> Iterator[Group]:
    """Starts the server that all share."""
    with RedisServer() as server:
        yield Group(
            "Redis, 300 bytes, 1,000 chats, no persistence, every commit awaited",
            [
                Contender(BATCHES, 20_000, lambda: batches(server)),
                Contender(OURS, 10_000, lambda: ours(server, IN_FLIGHT)),
                Contender(COMMANDS, 4_000, lambda: commands(server, IN_FLIGHT)),
                Contender(TWO_TRIPS, 1_000, lambda: commands(server, 1)),
                Contender(OURS_ALONE, 1_000, lambda: ours(server, 1)),
                Contender(AIOGRAM, 4_000, lambda: _aiogram.alone(IN_FLIGHT)),
                Contender(AIOGRAM_OURS, 4_000, lambda: aiogram_ours(server)),
                Contender(AIOGRAM_FREE, 2_000, lambda: aiogram_own(server, isolated=False)),
                Contender(AIOGRAM_ISOLATED, 1_000, lambda: aiogram_own(server, isolated=True)),
            ],
            f"{versions('redis', 'hiredis', 'aiogram')}, Redis {_version(server)}",
            [
                Goal("speed against one command at a time", OURS, COMMANDS, at_least=3),
                Goal("speed against the batched floor", OURS, BATCHES, at_least=0.3),
                Goal("one update in flight against two raw round trips", OURS_ALONE, TWO_TRIPS, at_most=1.4),
                Goal(
                    "what it adds to aiogram, against what RedisStorage with RedisEventIsolation adds",
                    (AIOGRAM_OURS, AIOGRAM),
                    (AIOGRAM_ISOLATED, AIOGRAM),
                    at_most=1 / 8,
                ),
            ],
        )


@asynccontextmanager
async def ours(server: RedisServer, flight: int) -> AsyncGenerator[Running]:
    server.ask("FLUSHALL")
    async with sessions_in(RedisStorage(server.url), flight) as running:
        yield running


@asynccontextmanager
async def batches(server: RedisServer) -> AsyncGenerator[Running]:
    """The floor: 200 chats a round trip, on one connection, no locks."""
    async with _client(server, 1) as redis:

        async def update(keys: list[str]) -> None:
            stored = await redis.mget(keys)
            await redis.mset(dict(zip(keys, map(counted_up, stored), strict=True)))

        yield Running(lambda updates: in_batches(updates, update), lambda: _total(redis))


@asynccontextmanager
async def commands(server: RedisServer, flight: int) -> AsyncGenerator[Running]:
    """What one would write by hand: one command at a time, no locks."""
    async with _client(server, min(flight, _CONNECTIONS)) as redis:

        async def handle(number: int) -> None:
            key = key_of(number)
            await redis.set(key, counted_up(await redis.get(key)))

        yield Running(lambda updates: in_flight(flight, updates, handle), lambda: _total(redis))


@asynccontextmanager
async def aiogram_ours(server: RedisServer) -> AsyncGenerator[Running]:
    """aiogram with our sessions: exclusive, fenced."""
    server.ask("FLUSHALL")
    async with SessionManager(Pizza, storage=RedisStorage(server.url)) as sessions:
        yield Running(_aiogram.with_sessions(sessions, IN_FLIGHT), lambda: total_of(sessions))


@asynccontextmanager
async def aiogram_own(server: RedisServer, *, isolated: bool) -> AsyncGenerator[Running]:
    """aiogram with its FSM data, the same 300 bytes, by the same JSON library."""
    async with _client(server, _CONNECTIONS) as redis:
        storage = AiogramStorage(redis, json_loads=msgspec.json.decode, json_dumps=_as_text)
        isolation = storage.create_isolation() if isolated else DisabledEventIsolation()
        dp = Dispatcher(storage=storage, events_isolation=isolation)

        @dp.message()
        async def handler(message: Message, state: FSMContext) -> None:
            data = await state.get_data() or msgspec.to_builtins(Pizza())
            data["count"] += 1
            await state.set_data(data)

        async def counted() -> int:
            return total(await redis.mget([f"fsm:{chat}:{chat}:data" for chat in range(1, CHATS + 1)]))

        yield Running(_aiogram.feeding(dp, IN_FLIGHT), counted)


@asynccontextmanager
async def _client(server: RedisServer, connections: int) -> AsyncGenerator[Redis]:
    server.ask("FLUSHALL")
    async with Redis.from_pool(BlockingConnectionPool.from_url(server.url, max_connections=connections)) as redis:
        yield redis


async def _total(redis: Redis) -> int:
    return total(await redis.mget([key_of(chat) for chat in range(CHATS)]))


def _as_text(data: object) -> str:
    return msgspec.json.encode(data).decode()


def _version(server: RedisServer) -> str:
    fields = dict(line.split(":", 1) for line in server.ask("INFO", "server").splitlines() if ":" in line)
    return fields["redis_version"].strip()

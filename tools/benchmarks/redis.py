"""Redis without persistence: sessions beside redis-py alone, and beside aiogram's and starsessions' own storages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import msgspec
import uvloop
from aiogram import Dispatcher
from aiogram.fsm.storage.memory import DisabledEventIsolation
from aiogram.fsm.storage.redis import RedisStorage as AiogramStorage
from redis.asyncio import BlockingConnectionPool, Redis

from chatsession.storages.redis import RedisStorage
from tools.benchmarks import _aiogram, _starsessions
from tools.benchmarks._chats import CHATS, IN_FLIGHT, counted_up, in_batches, key_of, sessions_in, total
from tools.benchmarks._group import Goal, Group, no_slower, versions
from tools.benchmarks._measure import Contender, Done, Running, in_flight
from tools.benchmarks._meters import cpu_of_children, redis_meter
from tools.benchmarks._pizza import SMALL
from tools.servers._process import program
from tools.servers.redis import RedisServer

CONNECTIONS = 50
"""Of redis-py's pool; its speed is the same from 20 to 200, and without a limit it fails."""

OURS, OURS_ALONE = "chatsession, 200 in flight", "chatsession, 1 in flight"
KEEPING, KEEPING_ALONE = (
    "chatsession, single_process=True, 200 in flight",
    "chatsession, single_process=True, 1 in flight",
)
BATCHES, COMMANDS = "MGET + MSET, 200 a batch", "redis-py GET + SET, 200 in flight"
TOOL = "redis-benchmark GET, then SET, 200 a pipeline"
TWO_TRIPS = "redis-py GET + SET, 1 in flight"
AIOGRAM, AIOGRAM_OURS = "aiogram, no state, 200 in flight", "aiogram + chatsession"
AIOGRAM_KEEPING = "aiogram + chatsession, single_process=True"
AIOGRAM_SETUP_FSM = "aiogram + setup_fsm"
AIOGRAM_FREE, AIOGRAM_ISOLATED = "aiogram + RedisStorage", "aiogram + RedisStorage, RedisEventIsolation"
ASGI, ASGI_STARSESSIONS = "bare ASGI application", "ASGI + starsessions' RedisStore, 200 in flight"


@contextmanager
def group() -> Generator[Group]:
    """Starts the server that all share."""
    with RedisServer() as server:
        yield Group(
            "Redis, 300 bytes, 1,000 chats, no persistence, every commit awaited",
            [
                # Its clock counts milliseconds: of few commands it tells that they took none.
                Contender(TOOL, lambda: by_redis_benchmark(server), "floor", step=IN_FLIGHT, least=20_000, warm=0),
                Contender(BATCHES, lambda: batches(server), "floor", step=IN_FLIGHT),
                Contender(OURS, lambda: ours(server, IN_FLIGHT), "ours"),
                Contender(f"{OURS}, uvloop", lambda: ours(server, IN_FLIGHT), "ours", loop=uvloop.new_event_loop),
                Contender(KEEPING, lambda: ours(server, IN_FLIGHT, single_process=True), "ours"),
                Contender(COMMANDS, lambda: commands(server, IN_FLIGHT)),
                Contender(TWO_TRIPS, lambda: commands(server, 1)),
                Contender(OURS_ALONE, lambda: ours(server, 1), "ours"),
                Contender(KEEPING_ALONE, lambda: ours(server, 1, single_process=True), "ours"),
                Contender(AIOGRAM, lambda: _aiogram.alone(IN_FLIGHT), "floor"),
                Contender(AIOGRAM_OURS, lambda: aiogram_ours(server, single_process=False), "ours", AIOGRAM),
                Contender(AIOGRAM_KEEPING, lambda: aiogram_ours(server, single_process=True), "ours", AIOGRAM),
                Contender(AIOGRAM_SETUP_FSM, lambda: aiogram_setup_fsm(server), "ours", AIOGRAM),
                Contender(AIOGRAM_FREE, lambda: aiogram_own(server, isolated=False), base=AIOGRAM),
                Contender(AIOGRAM_ISOLATED, lambda: aiogram_own(server, isolated=True), base=AIOGRAM),
                Contender(ASGI, lambda: _starsessions.alone(IN_FLIGHT), "floor"),
                Contender(ASGI_STARSESSIONS, lambda: starsessions(server), base=ASGI),
            ],
            f"{versions('redis', 'hiredis', 'aiogram', 'starsessions', 'uvloop')}, Redis {version(server)}",
            [
                Goal(
                    "speed against MGET + MSET in batches of 200",
                    OURS,
                    BATCHES,
                    at_least=0.5,
                    why="the floor asks twice for 200 updates, locks nothing and checks nothing; sessions lock, fence "
                    "and compare each key by a script on the server, which costs several times a GET there",
                ),
                Goal(
                    "the same of a bot in one process (single_process=True)",
                    KEEPING,
                    BATCHES,
                    at_least=0.5,
                    why="a busy chat's lock is kept, so that only the commit travels; it is fenced and compared by a "
                    "script all the same",
                ),
                Goal(
                    "what it adds to aiogram, against what RedisStorage with RedisEventIsolation adds",
                    (AIOGRAM_OURS, AIOGRAM),
                    (AIOGRAM_ISOLATED, AIOGRAM),
                    at_most=1 / 12,
                    why="an update that waits in aiogram leaves some twenty coroutines behind, and 200 of them do not "
                    "fit into the processor's cache: two waits that do nothing add 10 to 18 µs there",
                ),
                Goal(
                    "the same of a bot in one process (single_process=True)",
                    (AIOGRAM_KEEPING, AIOGRAM),
                    (AIOGRAM_ISOLATED, AIOGRAM),
                    at_most=1 / 12,
                    why="the same, with one wait",
                ),
                Goal("speed against one command at a time", OURS, COMMANDS, at_least=3),
                Goal(
                    f"what {AIOGRAM_ISOLATED} adds, in times of what {AIOGRAM_SETUP_FSM} adds",
                    (AIOGRAM_SETUP_FSM, AIOGRAM),
                    (AIOGRAM_ISOLATED, AIOGRAM),
                    at_least=6,
                ),
                no_slower((AIOGRAM_OURS, AIOGRAM), (AIOGRAM_FREE, AIOGRAM), "it locks nothing"),
                no_slower(OURS, (ASGI_STARSESSIONS, ASGI), "it locks nothing"),
                no_slower(
                    OURS_ALONE,
                    TWO_TRIPS,
                    "two round trips each; ours also run a script on the server that locks, checks and fences",
                ),
                no_slower(KEEPING_ALONE, TWO_TRIPS, "it locks nothing"),
            ],
            times=2,
        )


@asynccontextmanager
async def ours(server: RedisServer, flight: int, *, single_process: bool = False) -> AsyncGenerator[Running]:
    server.ask("FLUSHALL")
    async with sessions_in(
        RedisStorage(server.url, single_process=single_process), flight, redis_meter(server)
    ) as running:
        yield running


@asynccontextmanager
async def by_redis_benchmark(server: RedisServer) -> AsyncGenerator[Running]:
    """The server's own tool: as many GETs, then as many SETs, of values that mean nothing."""
    server.ask("FLUSHALL")
    server.ask("CONFIG", "RESETSTAT")

    async def run(updates: int) -> Done:
        before = cpu_of_children()
        process = await asyncio.create_subprocess_exec(
            *(program("redis-benchmark"), "-p", str(server.port), "--csv", "-t", "set,get", "-c", "1"),
            *("-P", str(IN_FLIGHT), "-r", str(CHATS), "-d", str(SMALL), "-n", str(updates)),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        lines = [line.split(",") for line in output.decode().splitlines()]
        speeds = [float(line[1].strip('"')) for line in lines if line[0] in ('"GET"', '"SET"')]
        return Done(seconds=sum(updates / speed for speed in speeds), cpu=cpu_of_children() - before)

    async def counted() -> int:
        lines = server.ask("INFO", "commandstats").splitlines()
        calls = [line for line in lines if line.startswith(("cmdstat_get:", "cmdstat_set:"))]
        return min([int(line.partition("calls=")[2].split(",")[0]) for line in calls], default=0)

    yield Running(run, counted, redis_meter(server))


@asynccontextmanager
async def batches(server: RedisServer) -> AsyncGenerator[Running]:
    """The floor: 200 chats a round trip, on one connection, no locks."""
    async with client(server, 1) as redis:

        async def update(keys: list[str]) -> None:
            stored = await redis.mget(keys)
            await redis.mset(dict(zip(keys, map(counted_up, stored), strict=True)))

        yield Running(lambda updates: in_batches(updates, update), lambda: total_in(redis), redis_meter(server))


@asynccontextmanager
async def commands(server: RedisServer, flight: int) -> AsyncGenerator[Running]:
    """What one would write by hand: one command at a time, no locks."""
    async with client(server, min(flight, CONNECTIONS)) as redis:

        async def handle(number: int) -> None:
            key = key_of(number)
            await redis.set(key, counted_up(await redis.get(key)))

        yield Running(lambda updates: in_flight(flight, updates, handle), lambda: total_in(redis), redis_meter(server))


def aiogram_ours(server: RedisServer, *, single_process: bool) -> AbstractAsyncContextManager[Running]:
    """aiogram with our sessions: exclusive, fenced."""
    server.ask("FLUSHALL")
    storage = RedisStorage(server.url, single_process=single_process)
    return _aiogram.with_sessions(storage, IN_FLIGHT, redis_meter(server))


@asynccontextmanager
async def aiogram_setup_fsm(server: RedisServer) -> AsyncGenerator[Running]:
    """aiogram with its FSM data on our storage: exclusive, fenced, one unit for each update."""
    server.ask("FLUSHALL")
    async with _aiogram.with_setup_fsm(server.url, IN_FLIGHT) as running:
        yield Running(running.run, running.counted, redis_meter(server))


@asynccontextmanager
async def aiogram_own(server: RedisServer, *, isolated: bool, chats: int = CHATS) -> AsyncGenerator[Running]:
    """aiogram with its FSM data, the same 300 bytes, by the same JSON library."""
    async with client(server, CONNECTIONS) as redis:
        storage = AiogramStorage(redis, json_loads=msgspec.json.decode, json_dumps=_as_text)
        isolation = storage.create_isolation() if isolated else DisabledEventIsolation()
        run = _aiogram.with_fsm(Dispatcher(storage=storage, events_isolation=isolation), IN_FLIGHT, chats)

        async def counted() -> int:
            return total(await redis.mget([f"fsm:{chat}:{chat}:data" for chat in range(1, CHATS + 1)]))

        yield Running(run, counted, redis_meter(server))


@asynccontextmanager
async def starsessions(server: RedisServer) -> AsyncGenerator[Running]:
    """A session of a web application, read and written by each request, no locks."""
    async with client(server, CONNECTIONS) as redis:

        async def counted() -> int:
            return total(await redis.mget([_starsessions.key_of(number) for number in range(CHATS)]))

        yield Running(_starsessions.with_store(redis, IN_FLIGHT), counted, redis_meter(server))


@asynccontextmanager
async def client(server: RedisServer, connections: int) -> AsyncGenerator[Redis]:
    """redis-py on an empty server."""
    server.ask("FLUSHALL")
    async with Redis.from_pool(BlockingConnectionPool.from_url(server.url, max_connections=connections)) as redis:
        yield redis


async def total_in(redis: Redis) -> int:
    """How many updates have been counted in all."""
    return total(await redis.mget([key_of(chat) for chat in range(CHATS)]))


def _as_text(data: object) -> str:
    return msgspec.json.encode(data).decode()


def version(server: RedisServer) -> str:
    """Of the server's program."""
    fields = dict(line.split(":", 1) for line in server.ask("INFO", "server").splitlines() if ":" in line)
    return fields["redis_version"].strip()

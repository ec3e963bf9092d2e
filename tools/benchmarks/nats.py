"""NATS JetStream: sessions beside the key-value store alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

import nats as driver
import uvloop
from nats.aio.client import Client
from nats.js.errors import KeyNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from chatsession.storages.nats import NatsStorage
from tools.benchmarks._chats import CHATS, IN_FLIGHT, counted_up, key_of, sessions_in, total
from tools.benchmarks._group import Group, no_slower, versions
from tools.benchmarks._measure import Contender, Running, in_flight
from tools.benchmarks._meters import Meter, nats_meter
from tools.servers._process import free_ports
from tools.servers.nats import NatsServer, binaries, version

_BUCKET = "pizzas"

OURS, OURS_ALONE = "chatsession, 200 in flight", "chatsession, 1 in flight"
KEEPING, KEEPING_ALONE = (
    "chatsession, single_process=True, 200 in flight",
    "chatsession, single_process=True, 1 in flight",
)
BY_HAND, BY_HAND_ALONE = "KV get + put, 200 in flight", "KV get + put, 1 in flight"
_WHY = (
    "by hand nothing is locked and no revision is checked: two calls an update, where sessions also make and delete a "
    "lock, both stored by the server"
)


@contextmanager
def group() -> Generator[Group]:
    """Starts the server that all share."""
    with metered_server() as (server, meter):
        yield Group(
            "NATS JetStream, 300 bytes, 1,000 chats, one replica in a file, every commit awaited",
            [
                Contender(BY_HAND, lambda: by_hand(server, meter, IN_FLIGHT)),
                Contender(OURS, lambda: ours(server, meter, IN_FLIGHT), "ours"),
                Contender(
                    f"{OURS}, uvloop", lambda: ours(server, meter, IN_FLIGHT), "ours", loop=uvloop.new_event_loop
                ),
                Contender(KEEPING, lambda: ours(server, meter, IN_FLIGHT, single_process=True), "ours"),
                Contender(BY_HAND_ALONE, lambda: by_hand(server, meter, 1)),
                Contender(OURS_ALONE, lambda: ours(server, meter, 1), "ours"),
                Contender(KEEPING_ALONE, lambda: ours(server, meter, 1, single_process=True), "ours"),
            ],
            f"{versions('nats-py', 'uvloop')}, NATS {'.'.join(map(str, version(binaries()[0])))}",
            [
                no_slower(OURS, BY_HAND, _WHY),
                no_slower(KEEPING, BY_HAND, _WHY),
                no_slower(OURS_ALONE, BY_HAND_ALONE, _WHY),
                no_slower(KEEPING_ALONE, BY_HAND_ALONE, _WHY),
            ],
        )


@contextmanager
def metered_server() -> Generator[tuple[NatsServer, Meter]]:
    """A server that tells what it did."""
    (monitor,) = free_ports(1)
    with NatsServer(settings=[f'http: "127.0.0.1:{monitor}"']) as server:
        yield server, nats_meter(server.process.pid, monitor)


@asynccontextmanager
async def ours(
    server: NatsServer, meter: Meter, flight: int, *, single_process: bool = False
) -> AsyncGenerator[Running]:
    async with _client(server) as client:
        await _remove_bucket(client)
        async with sessions_in(
            NatsStorage(server.url, bucket=_BUCKET, single_process=single_process), flight, meter
        ) as running:
            yield running


@asynccontextmanager
async def by_hand(server: NatsServer, meter: Meter, flight: int) -> AsyncGenerator[Running]:
    """What one would write by hand: get, then put, no locks."""
    async with _client(server) as client:
        await _remove_bucket(client)
        bucket = await client.jetstream().create_key_value(bucket=_BUCKET)

        async def handle(number: int) -> None:
            key = key_of(number)
            await bucket.put(key, counted_up(await _get(bucket, key)))

        async def counted() -> int:
            return total([await _get(bucket, key_of(chat)) for chat in range(CHATS)])

        yield Running(lambda updates: in_flight(flight, updates, handle), counted, meter)


@asynccontextmanager
async def _client(server: NatsServer) -> AsyncGenerator[Client]:
    client = await driver.connect(server.url)
    try:
        yield client
    finally:
        await client.close()


async def _remove_bucket(client: Client) -> None:
    with suppress(NotFoundError):
        await client.jetstream().delete_key_value(_BUCKET)


async def _get(bucket: KeyValue, key: str) -> bytes | None:
    try:
        return (await bucket.get(key)).value
    except KeyNotFoundError:
        return None

"""NATS JetStream: sessions beside the key-value store alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import nats as driver
from nats.js.errors import KeyNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from benchmarks._chats import CHATS, IN_FLIGHT, counted_up, key_of, sessions_in, total
from benchmarks._group import Group, versions
from benchmarks._measure import Contender, Running, in_flight
from chatsession.storages.nats import NatsStorage
from chatsession.testing.servers.nats import NatsServer, binaries, version

_BUCKET = "pizzas"


@contextmanager
def group() -> Iterator[Group]:
    """Starts the server that all share."""
    with NatsServer() as server:
        yield Group(
            "NATS JetStream, 300 bytes, 1,000 chats, one replica in a file, every commit awaited",
            [
                Contender("KV get + put, 200 in flight", 2_000, lambda: by_hand(server, IN_FLIGHT)),
                Contender("chatsession, 200 in flight", 2_000, lambda: ours(server, IN_FLIGHT)),
                Contender("KV get + put, 1 in flight", 1_000, lambda: by_hand(server, 1)),
                Contender("chatsession, 1 in flight", 1_000, lambda: ours(server, 1)),
            ],
            f"{versions('nats-py')}, NATS {'.'.join(map(str, version(binaries()[0])))}",
        )


@asynccontextmanager
async def ours(server: NatsServer, flight: int) -> AsyncGenerator[Running]:
    async with _client(server) as client:
        await _remove_bucket(client)
        async with sessions_in(NatsStorage(server.url, bucket=_BUCKET), flight) as running:
            yield running


@asynccontextmanager
async def by_hand(server: NatsServer, flight: int) -> AsyncGenerator[Running]:
    """What one would write by hand: get, then put, no locks."""
    async with _client(server) as client:
        await _remove_bucket(client)
        bucket = await client.jetstream().create_key_value(bucket=_BUCKET)

        async def handle(number: int) -> None:
            key = key_of(number)
            await bucket.put(key, counted_up(await _get(bucket, key)))

        async def counted() -> int:
            return total([await _get(bucket, key_of(chat)) for chat in range(CHATS)])

        yield Running(lambda updates: in_flight(flight, updates, handle), counted)


@asynccontextmanager
async def _client(server: NatsServer) -> AsyncGenerator[driver.NATS]:
    client = await driver.connect(server.url)
    try:
        yield client
    finally:
        await client.close()


async def _remove_bucket(client: driver.NATS) -> None:
    with suppress(NotFoundError):
        await client.jetstream().delete_key_value(_BUCKET)


async def _get(bucket: KeyValue, key: str) -> bytes | None:
    try:
        return (await bucket.get(key)).value
    except KeyNotFoundError:
        return None

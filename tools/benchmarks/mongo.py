"""MongoDB with `w: majority`: sessions beside pymongo alone, and beside aiogram's storage of FSM states."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Any

import uvloop
from aiogram.fsm.storage.base import StorageKey
from aiogram.fsm.storage.pymongo import PyMongoStorage
from pymongo import AsyncMongoClient, ReplaceOne
from pymongo.asynchronous.collection import AsyncCollection

from chatsession.storages.mongo import MongoStorage
from tools.benchmarks._chats import CHATS, IN_FLIGHT, in_batches, key_of, sessions_in
from tools.benchmarks._group import Goal, Group, versions
from tools.benchmarks._measure import Contender, Running, in_flight
from tools.benchmarks._meters import Meter, mongo_meter
from tools.benchmarks._pizza import Pizza
from tools.servers.mongo import MongoServer

OURS, OURS_ALONE = "chatsession, 200 in flight", "chatsession, 1 in flight"
KEEPING, KEEPING_ALONE = (
    "chatsession, single_process=True, 200 in flight",
    "chatsession, single_process=True, 1 in flight",
)
BATCHES = "pymongo find + bulk_write, 200 a batch"
ONE_BY_ONE, BY_HAND = "pymongo find_one + replace_one, 1 in flight", "pymongo find_one + replace_one, 200 in flight"
AIOGRAM = "aiogram PyMongoStorage get_data + set_data, 200 in flight"

Documents = AsyncCollection[dict[str, Any]]


@contextmanager
def group() -> Generator[Group]:
    """Starts the server that all share."""
    with metered_server() as (server, meter):
        yield Group(
            "MongoDB, 300 bytes, 1,000 chats, a replica set of one, w: majority, every commit awaited",
            [
                Contender(BATCHES, lambda: batches(server, meter), "floor", step=IN_FLIGHT),
                Contender(OURS, lambda: ours(server, meter, IN_FLIGHT), "ours"),
                Contender(
                    f"{OURS}, uvloop", lambda: ours(server, meter, IN_FLIGHT), "ours", loop=uvloop.new_event_loop
                ),
                Contender(KEEPING, lambda: ours(server, meter, IN_FLIGHT, single_process=True), "ours"),
                Contender(BY_HAND, lambda: by_hand(server, meter, IN_FLIGHT)),
                Contender(AIOGRAM, lambda: aiograms(server, meter)),
                Contender(ONE_BY_ONE, lambda: by_hand(server, meter, 1)),
                Contender(OURS_ALONE, lambda: ours(server, meter, 1), "ours"),
                Contender(KEEPING_ALONE, lambda: ours(server, meter, 1, single_process=True), "ours"),
            ],
            f"{versions('pymongo', 'aiogram', 'uvloop')}, MongoDB {server.command({'buildInfo': 1})['version']}",
            [
                Goal(
                    "speed against find_one + replace_one, one by one",
                    OURS,
                    ONE_BY_ONE,
                    at_least=5,
                    why="by hand nothing is locked and no version is checked",
                ),
                Goal(
                    "speed against batches of 200 by find and bulk_write",
                    OURS,
                    BATCHES,
                    at_least=0.4,
                    why="the floor locks nothing and checks nothing; sessions write a lock and the value, and the "
                    "server plans a query for each of them",
                ),
            ],
        )


@contextmanager
def metered_server() -> Generator[tuple[MongoServer, Meter]]:
    """A server that tells what it did."""
    with MongoServer(replica_set=True) as server:
        yield server, mongo_meter(server)


@asynccontextmanager
async def ours(
    server: MongoServer, meter: Meter, flight: int, *, single_process: bool = False
) -> AsyncGenerator[Running]:
    async with _collection(server, "sessions"):
        pass
    async with sessions_in(MongoStorage(server.url, single_process=single_process), flight, meter) as running:
        yield running


@asynccontextmanager
async def batches(server: MongoServer, meter: Meter) -> AsyncGenerator[Running]:
    """The least that it can cost: a read and a bulk write for 200 chats, without locks."""
    async with _collection(server, "pizzas") as collection:

        async def update(keys: list[str]) -> None:
            found = {each["_id"]: each["value"] async for each in collection.find({"_id": {"$in": keys}})}
            await collection.bulk_write(
                [
                    ReplaceOne({"_id": key}, {"_id": key, "value": _counted_up(found.get(key))}, upsert=True)
                    for key in keys
                ],
                ordered=False,
            )

        yield Running(lambda updates: in_batches(updates, update), lambda: _total(collection), meter)


@asynccontextmanager
async def by_hand(server: MongoServer, meter: Meter, flight: int) -> AsyncGenerator[Running]:
    """What one would write by hand: find, then replace, no locks."""
    async with _collection(server, "pizzas") as collection:

        async def handle(number: int) -> None:
            key = key_of(number)
            found = await collection.find_one({"_id": key})
            value = _counted_up(found and found["value"])
            await collection.replace_one({"_id": key}, {"_id": key, "value": value}, upsert=True)

        yield Running(lambda updates: in_flight(flight, updates, handle), lambda: _total(collection), meter)


@asynccontextmanager
async def aiograms(server: MongoServer, meter: Meter) -> AsyncGenerator[Running]:
    """aiogram's own storage on MongoDB; it has no locks across processes."""
    async with _collection(server, "states_and_data") as collection:
        client = collection.database.client
        storage = PyMongoStorage(client, db_name="bot", collection_name=collection.name)

        async def handle(number: int) -> None:
            chat = int(key_of(number)) + 1
            key = StorageKey(bot_id=1, chat_id=chat, user_id=chat)
            await storage.set_data(key, _counted_up(await storage.get_data(key) or None))

        async def counted() -> int:
            return sum([each["data"]["count"] async for each in collection.find()])

        yield Running(lambda updates: in_flight(IN_FLIGHT, updates, handle), counted, meter)


@asynccontextmanager
async def _collection(server: MongoServer, name: str) -> AsyncGenerator[Documents]:
    async with AsyncMongoClient[dict[str, Any]](server.url, w="majority") as client:
        collection = client.bot[name]
        await collection.drop()
        yield collection


def _counted_up(stored: dict[str, Any] | None) -> dict[str, Any]:
    value = stored or asdict(Pizza())
    return {**value, "count": value["count"] + 1}


async def _total(collection: Documents) -> int:
    assert await collection.count_documents({}) <= CHATS
    return sum([each["value"]["count"] async for each in collection.find()])

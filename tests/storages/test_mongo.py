"""MongoDB passes the whole suite, as a replica set, as a single server and in grammY's documents; and what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from chatsession.storages.mongo import MongoStorage
from chatsession.testing.storages import MakeStorage, StorageConformance
from tools.servers.mongo import MongoServer

_collections = (f"sessions_{number}" for number in count())


@pytest.fixture
def collection() -> str:
    return next(_collections)


@pytest.fixture(scope="module")
def standalone() -> Iterator[MongoServer]:
    with MongoServer(user="b@t", password="p@ss:w/rd") as server:
        yield server


class TestMongoStorage(StorageConformance):
    @pytest.fixture
    def make_storage(self, mongo_server: MongoServer, collection: str) -> MakeStorage:
        return lambda: MongoStorage(mongo_server.url, collection=collection)


class TestWithoutReplicaSet(StorageConformance):
    @pytest.fixture
    def make_storage(self, standalone: MongoServer, collection: str) -> MakeStorage:
        return lambda: MongoStorage(standalone.url, collection=collection)


class TestInGrammysDocuments(StorageConformance):
    @pytest.fixture
    def make_storage(self, mongo_server: MongoServer, collection: str) -> MakeStorage:
        return lambda: MongoStorage(mongo_server.url, collection=collection, layout="grammy")

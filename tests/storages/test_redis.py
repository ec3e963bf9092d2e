"""Redis alone: the whole conformance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatsession.storages.redis import RedisStorage
from chatsession.testing.servers.redis import RedisServer
from chatsession.testing.storages import MakeStorage, StorageConformance


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class TestRedisStorage(StorageConformance):
    @pytest.fixture
    def make_storage(self, server: RedisServer) -> MakeStorage:
        server.ask("FLUSHALL")
        return lambda: RedisStorage(server.url)

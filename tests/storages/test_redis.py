"""Redis alone, behind sentinels, and as a cluster, and Valkey pass the whole conformance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatsession.storages.redis import RedisStorage
from chatsession.testing.storages import MakeStorage, StorageConformance
from tools.servers.redis import RedisCluster, RedisSentinel, RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(password="p@ss:w/rd") as server:
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[RedisServer]:
    with RedisServer(password="p@ss:w/rd", valkey=True) as server:
        yield server


class Redis(StorageConformance):
    tick = 0.3
    more_keys = (
        "{a}{b}",
        "}{a}",
        "a}",
        "{}a",
        "{}{a}",
        "{a",
        "a{b}c}",
        "!chatsession",
        "!chatsession:lock:{a}",
        "a[b*c?d\\e",
    )


class TestRedisAlone(Redis):
    @pytest.fixture
    def make_storage(self, server: RedisServer) -> MakeStorage:
        server.ask("FLUSHALL")
        return lambda: RedisStorage(server.url)


class TestValkey(Redis):
    @pytest.fixture
    def make_storage(self, valkey: RedisServer) -> MakeStorage:
        valkey.ask("FLUSHALL")
        return lambda: RedisStorage(valkey.url)


class TestRedisBehindSentinels(Redis):
    @pytest.fixture
    def make_storage(self, redis_sentinel: RedisSentinel) -> MakeStorage:
        redis_sentinel.primary.ask("FLUSHALL")
        return lambda: RedisStorage(redis_sentinel.url, wait_replicas=1)


class TestRedisCluster(Redis):
    @pytest.fixture
    def make_storage(self, redis_cluster: RedisCluster) -> MakeStorage:
        for server in redis_cluster.primaries():
            server.ask("FLUSHALL")
        return lambda: RedisStorage(redis_cluster.url)

"""Real servers, started once for all tests that ask for them; one that is not installed fails them."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# The same examples each time, and as long as they take: what a test says must not depend on chance or on the machine.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# A shell that runs the tests in the background lets its children ignore Ctrl-C, and so would the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from tools.servers.mongo import MongoServer
    from tools.servers.nats import NatsServer
    from tools.servers.postgres import PostgresServer
    from tools.servers.redis import RedisCluster, RedisSentinel, RedisServer


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """Keep what is there before a test out of its garbage collections: the modules of all frameworks and all tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def clean_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """For tests in which nothing may be logged: what is logged of the garbage of earlier tests is logged before."""
    gc.collect()
    caplog.clear()
    return caplog


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    from tools.servers.redis import RedisServer

    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisServer]:
    from tools.servers.redis import RedisServer

    with RedisServer(valkey=True) as server:
        yield server


@pytest.fixture(params=["redis", "valkey"])
def redis_or_valkey(request: pytest.FixtureRequest) -> RedisServer:
    """An empty server of each kind."""
    server: RedisServer = request.getfixturevalue(f"{request.param}_server")
    server.ask("FLUSHALL")
    return server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    from tools.servers.redis import RedisCluster

    with RedisCluster(down_after=60) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_sentinel() -> Iterator[RedisSentinel]:
    from tools.servers.redis import RedisSentinel

    with RedisSentinel(down_after=60) as sentinel:
        yield sentinel


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    from tools.servers.postgres import PostgresServer

    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    from tools.servers.nats import NatsServer

    with NatsServer() as server:
        yield server


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[MongoServer]:
    """A replica set of one: it has change streams."""
    from tools.servers.mongo import MongoServer

    with MongoServer(replica_set=True) as server:
        yield server

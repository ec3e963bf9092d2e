"""NATS: the shared suite, on a new server and on an old one without times to live."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from chatsession.storages.nats import NatsStorage
from chatsession.testing.storages import MakeStorage, StorageConformance
from tools.servers.nats import NatsServer, binaries

_buckets = count()


@pytest.fixture(scope="module", params=binaries(), ids=lambda path: path)
def server(request: pytest.FixtureRequest) -> Iterator[NatsServer]:
    with NatsServer(binary=request.param) as server:
        yield server


class TestNatsStorage(StorageConformance):
    tick = 0.3
    largest_value = 1_000_000
    more_keys = ("=3D", "=3d", "a=", "a..b", ".", "A.b", "$KV.sessions.a", ">", "*", "a.*")

    @pytest.fixture
    def make_storage(self, server: NatsServer) -> MakeStorage:
        bucket = f"suite-{next(_buckets)}"
        return lambda: NatsStorage(server.url, bucket=bucket)

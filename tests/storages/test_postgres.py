"""PostgreSQL passes the whole suite, directly, through PgBouncer, and with the user's own pool."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from chatsession.storages.postgres import PostgresStorage
from chatsession.testing.servers.postgres import PgBouncer, PostgresServer
from chatsession.testing.storages import MakeStorage, StorageConformance

_tables = (f"sessions_{number}" for number in count())


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as running:
        yield running


@pytest.fixture(scope="module")
def bouncer(server: PostgresServer) -> Iterator[PgBouncer]:
    with PgBouncer(server) as running:
        yield running


class TestPostgresStorage(StorageConformance):
    @pytest.fixture
    def make_storage(self, server: PostgresServer) -> MakeStorage:
        table = next(_tables)
        return lambda: PostgresStorage(server.url, table=table)


class TestThroughPgBouncer(StorageConformance):
    @pytest.fixture
    def make_storage(self, bouncer: PgBouncer) -> MakeStorage:
        table = next(_tables)
        return lambda: PostgresStorage(bouncer.url, table=table)

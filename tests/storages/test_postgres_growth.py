"""What is done now and then touches what is over, not everything that is stored."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chatsession.storages import Action, Change, Storage
from chatsession.storages.postgres import PostgresStorage
from chatsession.storages.postgres._storage import Layout
from tools.servers.postgres import PostgresServer

_STORED = 3_000
_EXPIRED = 3
_LAYOUTS: Sequence[tuple[Layout, str]] = (("chatsession", "few_expired"), ("grammy", "few_left_chatsession"))


async def _fill(storage: Storage) -> None:
    for begin in range(0, _STORED, 500):
        keys = [f"live:{number}" for number in range(begin, begin + 500)]
        await storage.commit_many([Change(key, Action.PUT, b"1", ttl=1_000_000) for key in keys])
    gone = [f"gone:{number}" for number in range(_EXPIRED)]
    await storage.commit_many([Change(key, Action.PUT, b"1", ttl=0.000001) for key in gone])


def _entries_read(server: PostgresServer, table: str, work: str) -> int:
    """How many rows and index entries of the sessions some SQL has read, in its own transaction."""
    server.psql(f"ANALYZE {table}")
    told = server.psql(
        f"BEGIN; {work};"
        f"SELECT pg_stat_get_xact_tuples_returned('{table}'::regclass)"
        f" + pg_stat_get_xact_tuples_returned('{table}_expiry_index'::regclass); COMMIT"
    )
    return int(told.split()[-1])


@pytest.mark.parametrize(("layout", "table"), _LAYOUTS, ids=["own", "grammY's"])
async def test_a_sweep_reads_what_has_expired_and_no_more(
    postgres_server: PostgresServer, layout: Layout, table: str
) -> None:
    async with PostgresStorage(postgres_server.url, table=table.partition("_chat")[0], layout=layout) as storage:
        await _fill(storage)
        assert _entries_read(postgres_server, table, f"SELECT {table}_sweep(1000)") < 100
        assert await storage.count_expired() == 0


async def test_counting_what_has_expired_reads_no_more(postgres_server: PostgresServer) -> None:
    async with PostgresStorage(postgres_server.url, table="few_counted") as storage:
        await _fill(storage)
        assert await storage.count_expired() == _EXPIRED
        count = storage._schema.query("count_expired")
        assert _entries_read(postgres_server, "few_counted", count) < 100

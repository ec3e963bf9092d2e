"""Event loops that are left open, and run again after another one has used the storage."""

from __future__ import annotations

import asyncio
import gc

import pytest

from chatsession import SessionManager
from tools.servers.nats import NatsServer
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisServer


@pytest.fixture(params=["redis", "postgres", "nats"])
def url(request: pytest.FixtureRequest) -> str:
    server: RedisServer | PostgresServer | NatsServer = request.getfixturevalue(f"{request.param}_server")
    return server.create_database("open_loops") if isinstance(server, PostgresServer) else server.url


def test_15c_loops_that_take_turns_log_nothing(url: str, clean_log: pytest.LogCaptureFixture) -> None:
    counters = SessionManager(int, storage=url, prefix="open-loops:")
    loops = [asyncio.new_event_loop() for _ in range(2)]
    try:
        for turn in range(2):
            for place, loop in enumerate(loops):
                assert loop.run_until_complete(counters.update(7, lambda count: count + 1)) == 2 * turn + place + 1
                loop.run_until_complete(asyncio.sleep(0.01))
        loops[1].run_until_complete(counters.aclose())
        loops[0].run_until_complete(asyncio.sleep(0.01))
    finally:
        for loop in loops:
            loop.close()
    gc.collect()
    assert not [record for record in clean_log.records if record.name == "asyncio"]

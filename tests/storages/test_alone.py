"""`single_process`: a server that is told that nobody else comes saves a trip, and nothing is lost if somebody does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from chatsession import SessionManager, Storage, open_storage
from chatsession.errors import SessionConflictError, StorageError
from chatsession.storages import Locked, LockRequest
from tools.servers.mongo import MongoServer
from tools.servers.nats import NatsServer
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisServer

Make = Callable[..., Storage]


@pytest.fixture(params=["redis", "postgres", "nats", "mongo"])
def make(request: pytest.FixtureRequest) -> Any:
    """Opens storages of a server of their own."""
    server = {"redis": RedisServer, "postgres": PostgresServer, "nats": NatsServer, "mongo": MongoServer}[request.param]
    with server() as running:
        yield lambda **options: open_storage(
            f"{running.url}?{'&'.join(f'{name}={value}' for name, value in options.items())}"
        )


class Locks:
    """Counts how many keys a storage is asked to lock."""

    def __init__(self, storage: Storage, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        lock_many = storage.lock_many

        async def counting(requests: Sequence[LockRequest]) -> Sequence[Locked | Exception | None]:
            self.count += len(requests)
            return await lock_many(requests)

        patch.setattr(storage, "lock_many", counting)


async def count_up(sessions: SessionManager[int]) -> None:
    async with sessions.open("chat") as session:
        session.data += 1


async def count_up_once(sessions: SessionManager[int]) -> None:
    """Also on a machine so slow that a short lease runs out during an update, which writes nothing then."""
    while True:
        with suppress(SessionConflictError):
            return await count_up(sessions)


@pytest.mark.parametrize(("single_process", "locks"), [("true", 1), ("false", 5)])
async def test_the_next_update_of_a_chat_locks_nothing(
    make: Make, single_process: str, locks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = make(single_process=single_process)
    counted = Locks(storage, monkeypatch)
    async with SessionManager(int, storage=storage) as sessions:
        for _ in range(5):
            await count_up(sessions)
        assert await sessions.get("chat") == 5
    assert counted.count == locks


async def test_a_second_process_waits_a_moment_and_loses_nothing(make: Make) -> None:
    async with (
        SessionManager(int, storage=make(single_process="true")) as ours,
        SessionManager(int, storage=make(), lock_timeout=60) as theirs,
    ):
        for _ in range(3):
            await count_up(ours)
            await count_up(theirs)
        assert await ours.get("chat") == 6


async def test_two_that_both_think_that_they_are_alone_lose_nothing(make: Make) -> None:
    async with (
        SessionManager(int, storage=make(single_process="true"), lock_timeout=60) as ours,
        SessionManager(int, storage=make(single_process="true"), lock_timeout=60) as theirs,
    ):
        await asyncio.gather(*(count_up(sessions) for sessions in (ours, theirs) for _ in range(20)))
        assert await ours.get("chat") == 40


async def test_a_process_stopped_past_its_lease_distrusts_what_it_kept(make: Make) -> None:
    async with (
        SessionManager(int, storage=make(single_process="true"), lock_lease=0.3) as ours,
        SessionManager(int, storage=make(), lock_timeout=60) as theirs,
    ):
        await count_up_once(ours)
        time.sleep(0.5)  # noqa: ASYNC251 - the whole process is to stall, longer than its lease
        await count_up(theirs)
        await count_up_once(ours)
        assert await ours.get("chat") == 3


async def test_a_kept_lease_is_given_back_at_the_end(make: Make) -> None:
    async with SessionManager(int, storage=make(single_process="true")) as ours:
        await count_up(ours)
    async with SessionManager(int, storage=make(), lock_timeout=15) as theirs:
        await count_up(theirs)
        assert await theirs.get("chat") == 2


@pytest.mark.parametrize(
    "url", ["redis://h?single_process=perhaps", "postgresql://h/d?single_process=perhaps", "nats://h?single_process="]
)
def test_it_is_true_or_false(url: str) -> None:
    with pytest.raises(StorageError, match="single_process in the URL must be true or false"):
        open_storage(url)

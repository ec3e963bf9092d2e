"""A session that travels alone takes other statements in PostgreSQL than one among many; the outcome is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count, product

import pytest

from chatsession.errors import SessionError
from chatsession.storages import Action, Change, Committed, Expect, Lease, Locked, Outcome, Record
from chatsession.storages.postgres import PostgresStorage, _locks
from chatsession.testing.conformance.single import lock, put, read, request, try_lock, unlock
from tools.servers.postgres import PostgresServer

_tables = (f"alone_{number}" for number in count())

STORED = {"nothing": None, "json": b'{"count": 1}', "bytes": b"\x80\0", "expired": b"1"}
NEW_VALUES = [b'{"count": 2}', b"\xff\0", b'"\\u0000"']


@pytest.fixture
async def storage(postgres_server: PostgresServer) -> AsyncIterator[PostgresStorage]:
    async with PostgresStorage(postgres_server.url, table=next(_tables)) as storage:
        yield storage


async def _prepared(storage: PostgresStorage, key: str, stored: str, lease: str) -> tuple[Record | None, Lease]:
    """Bring a key into a state; gives what is read there, and the lease to commit with."""
    value = STORED[stored]
    if value is not None:
        await put(storage, key, value, ttl=0.000001 if stored == "expired" else None)
    locked = await lock(storage, key)
    if lease == "lost":
        await unlock(storage, locked.lease)
        await lock(storage, key)
    if lease == "waited for":
        assert await try_lock(storage, request(key)) is None
    return await read(storage, key), locked.lease


async def _seen(storage: PostgresStorage, key: str, outcome: Outcome) -> tuple[object, ...]:
    """All that can be seen of a commit, except for numbers that are never the same."""
    assert not isinstance(outcome, SessionError)
    record = await read(storage, key)
    if isinstance(outcome, Committed):
        assert record is not None
        assert record.version == outcome.version
    free = await try_lock(storage, request(key))
    return (
        type(outcome) if isinstance(outcome, Committed) else outcome,
        record and (record.value, record.expires_at is None),
        free is None,
    )


@pytest.mark.parametrize("lease", ["held", "lost", "waited for"])
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("unlock", [True, False], ids=["unlock", "keep"])
async def test_a_change_alone_ends_as_among_others(
    storage: PostgresStorage, stored: str, lease: str, unlock: bool
) -> None:
    expectations = ["what was read", "another", "nothing", "anything"]
    for number, (expected, value, ttl) in enumerate(product(expectations, NEW_VALUES, (None, 60.0))):
        seen: list[tuple[object, ...]] = []
        for others in (0, 1):
            key = f"{number}-{others}"
            record, its_lease = await _prepared(storage, key, stored, lease)
            expect = {
                "what was read": record and record.version,
                "another": 2**62,
                "nothing": None,
                "anything": Expect.ANYTHING,
            }[expected]
            change = Change(key, Action.PUT, value, expect, ttl, its_lease, unlock)
            beside = [Change(f"{key}-beside", Action.PUT, b"1")] * others
            outcome, *_ = await storage.commit_many([change, *beside])
            seen.append(await _seen(storage, key, outcome))
        assert seen[0] == seen[1], (expected, value, ttl)


async def test_a_key_that_cannot_be_indexed_is_locked_and_stored_alone(storage: PostgresStorage) -> None:
    key = "x" * 5000
    locked = await lock(storage, key)
    assert locked.record is None
    for value in (b"1", b"2"):
        record = await read(storage, key)
        change = Change(key, Action.PUT, value, record and record.version, lease=locked.lease)
        (outcome,) = await storage.commit_many([change])
        assert isinstance(outcome, Committed)
    assert (await storage.scan("x", None, 10)).entries[0][0] == key


@pytest.mark.parametrize("others", [0, 1])
async def test_of_many_who_insert_at_once_one_wins(storage: PostgresStorage, others: int) -> None:
    """Alone and in batches, with leases that do not guard each other."""

    async def insert(number: int) -> Outcome:
        changes = [Change("chat", Action.PUT, b"1", None), *[Change(f"own-{number}", Action.PUT, b"1")] * others]
        return (await storage.commit_many(changes))[0]

    outcomes = await asyncio.gather(*(insert(number) for number in range(20)))
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 1


async def test_a_single_lock_is_granted_again_if_its_answer_was_lost(
    storage: PostgresStorage, postgres_server: PostgresServer
) -> None:
    wanted = request("chat")
    first = await try_lock(storage, wanted)
    assert isinstance(first, Locked)
    sql = storage._schema.sql("SELECT * FROM {lock_one}($1, $2, $3, $4)")
    ((_, token, *_),) = await storage._database.fetch(sql, wanted.key, wanted.waiter, wanted.seconds, True)
    assert token == first.lease.token
    assert await storage._database.fetch(sql, wanted.key, "another", wanted.seconds, True) != []
    assert await try_lock(storage, request("chat")) is None


async def test_after_a_crash_of_the_server_a_holder_commits_alone(postgres_server: PostgresServer) -> None:
    """The table of leases is empty then, which `commit` mends."""
    async with PostgresStorage(postgres_server.url, table=next(_tables)) as storage:
        await put(storage, "chat", b"1")
        locked = await lock(storage, "chat")
        assert locked.record is not None
        await storage._database.fetch(storage._schema.sql("DELETE FROM {leases}"))
        await storage._database.fetch(storage._schema.sql("DELETE FROM {era}"))
        change = Change("chat", Action.PUT, b"2", locked.record.version, lease=locked.lease, unlock=True)
        (outcome,) = await storage.commit_many([change])
        assert isinstance(outcome, Committed)


async def test_a_single_change_wakes_the_waiter(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_locks, "_LONGEST_SLEEP", 3600.0)
    table = next(_tables)
    async with (
        asyncio.timeout(60),
        PostgresStorage(postgres_server.url, table=table) as storage,
        PostgresStorage(postgres_server.url, table=table) as other,
    ):
        held = await lock(storage, "chat")
        wanted = request("chat")
        assert await try_lock(other, wanted) is None
        await other.wait_unlocked(wanted, 0)  # begins to listen
        assert await try_lock(other, wanted) is None
        waiting = asyncio.create_task(other.wait_unlocked(wanted, 1))
        await asyncio.sleep(0)
        await storage.commit_many([Change("chat", Action.PUT, b"1", None, lease=held.lease, unlock=True)])
        await waiting
        assert await try_lock(other, wanted) is not None

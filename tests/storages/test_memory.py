"""The reference: whatever a storage must do, memory does; and what only memory does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from chatsession import MemoryStorage, SessionManager, open_storage
from chatsession.errors import StorageError
from chatsession.storages import Action, Change, Locked, LockRequest, Outcome, Record
from chatsession.testing.conformance.single import (
    delete,
    lock,
    number,
    put,
    request,
    scan_all_keys,
    try_lock,
    unlock,
    value_of,
)
from chatsession.testing.storages import MakeStorage, MovableClock, StorageConformance


class TestMemoryStorage(StorageConformance):
    @pytest.fixture
    def clock(self) -> MovableClock:
        return MovableClock()

    @pytest.fixture
    def make_storage(self, clock: MovableClock) -> MakeStorage:
        return lambda: MemoryStorage(clock=clock)


class NamesKeysOnce(MemoryStorage):
    """Fails if a call names a key twice: neither the core nor the suite may do that to a storage."""

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | None]:
        assert len(keys) == len(set(keys))
        return await super().read_many(keys)

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        assert len(changes) == len({change.key for change in changes})
        return await super().commit_many(changes)

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | None]:
        assert len(requests) == len({request.key for request in requests})
        return await super().lock_many(requests)

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        assert len(requests) == len({request.key for request in requests})
        await super().abandon_many(requests)


class TestMemoryStorageInRealTime(StorageConformance):
    """As servers that keep the time themselves are tested."""

    tick = 0.05

    @pytest.fixture
    def make_storage(self) -> MakeStorage:
        return NamesKeysOnce


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


async def test_time_to_live_counts_from_the_last_access(clock: MovableClock) -> None:
    storage = MemoryStorage(time_to_live=10, clock=clock)
    async with SessionManager(int, storage=storage) as counters:
        await counters.update("chat", lambda count: count + 1)
        for _ in range(3):
            clock.advance(6)
            async with counters.open("chat") as session:
                assert session.data == 1
        clock.advance(10)
        assert await counters.get("chat") is None


async def test_the_ttl_of_a_manager_overrides_that_of_the_storage(clock: MovableClock) -> None:
    storage = MemoryStorage(time_to_live=10, clock=clock)
    async with SessionManager(int, storage=storage, ttl=100) as counters:
        await counters.update("chat", lambda count: count + 1)
        clock.advance(99)
        assert await counters.get("chat") == 1
        clock.advance(1)
        assert await counters.get("chat") is None


@pytest.mark.parametrize("seconds", [0, -1, -0.5])
def test_a_time_to_live_must_be_positive(seconds: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        MemoryStorage(time_to_live=seconds)


async def test_later_commits_free_expired_records_without_reading_them(clock: MovableClock) -> None:
    storage = MemoryStorage(clock=clock)
    for n in range(100):
        await put(storage, f"old-{n}", b"1", ttl=10)
    clock.advance(10)
    for n in range(50):
        await put(storage, f"new-{n}", b"1")
    assert repr(storage) == "<MemoryStorage: 50 sessions>"


async def test_a_time_to_live_that_was_shortened_frees_in_time(clock: MovableClock) -> None:
    storage = MemoryStorage(clock=clock)
    await put(storage, "chat", b"1", ttl=1_000_000)
    await put(storage, "chat", b"1", ttl=10)
    clock.advance(10)
    assert await storage.sweep() == 1
    assert repr(storage) == "<MemoryStorage: 0 sessions>"


async def test_a_session_that_is_touched_often_is_watched_once(clock: MovableClock) -> None:
    storage = MemoryStorage(clock=clock)
    await put(storage, "chat", b"1", ttl=10)
    for _ in range(1_000):
        clock.advance(0.5)
        await storage.commit_many([Change("chat", Action.TOUCH, ttl=10)])
    assert _held(storage) <= 5
    assert await value_of(storage, "chat") == b"1"


async def test_deleted_keys_leave_nothing_behind(clock: MovableClock) -> None:
    storage = MemoryStorage(clock=clock)
    for n in range(3_000):
        key = f"chat:{n}"
        holder = await lock(storage, key)
        wish = request(key)
        assert await try_lock(storage, wish) is None
        await put(storage, key, b"1", ttl=1_000)
        await unlock(storage, holder.lease)
        locked = await try_lock(storage, wish)
        assert locked is not None
        await unlock(storage, locked.lease)
        await delete(storage, key)
    assert _held(storage) < 300


async def test_records_are_enumerated_in_the_order_in_which_they_came() -> None:
    storage = MemoryStorage()
    keys = [f"{n * 7919 % 1000}" for n in range(300)]
    for key in keys:
        await put(storage, key, b"1")
    await put(storage, keys[0], b"2")  # a new value is no new key
    assert await scan_all_keys(storage) == keys
    await delete(storage, keys[0])
    await put(storage, keys[0], b"3")
    assert await scan_all_keys(storage) == [*keys[1:], keys[0]]


async def test_an_enumeration_goes_on_after_the_order_is_compacted() -> None:
    storage = MemoryStorage()
    for n in range(1_000):
        await put(storage, f"{n}", number(n))
    keys, cursor = await storage.scan_keys("", None, 100)
    for n in range(1_000):
        if n % 10:
            await delete(storage, f"{n}")
    while cursor is not None:
        page, cursor = await storage.scan_keys("", cursor, 100)
        keys = [*keys, *page]
    assert keys == [f"{n}" for n in range(1_000) if n < 100 or n % 10 == 0]


async def test_an_enumeration_ends_although_keys_are_added_faster() -> None:
    storage = MemoryStorage()
    for n in range(20):
        await put(storage, f"{n}", b"1")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        keys, cursor = await storage.scan_keys("", cursor, 5)
        seen += keys
        await asyncio.gather(*(put(storage, f"new-{key}-{len(seen)}-{n}", b"1") for key in keys for n in range(3)))
        if cursor is None:
            break
    assert seen == [f"{n}" for n in range(20)]


def test_by_url() -> None:
    assert isinstance(open_storage("memory:"), MemoryStorage)
    assert open_storage("memory:?time_to_live=2.5").time_to_live == 2.5


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://host", "just memory:"),
        ("memory:path", "just memory:"),
        ("memory:?ttl=1", "known are time_to_live"),
        ("memory:?time_to_live=", "positive number of seconds"),
        ("memory:?time_to_live=soon", "positive number of seconds"),
        ("memory:?time_to_live=-1", "positive number of seconds"),
        ("memory:?time_to_live=nan", "positive number of seconds"),
        ("memory:?time_to_live=1&time_to_live=2", "given twice"),
    ],
)
def test_by_a_wrong_url(url: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        open_storage(url)


def _held(storage: MemoryStorage) -> int:
    """How many things it holds about keys, in all of its tables."""
    tables: list[object] = [value for value in vars(storage).values() if isinstance(value, dict | list | set)]
    return sum(len(table) for table in tables)  # type: ignore[arg-type]  # each is one of the three above

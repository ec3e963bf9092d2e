"""Rule 16: `ttl` counts from the last access; what expired reads as missing, and goes away unread."""

# ruff: noqa: SIM118 - small blocks read best where they stand

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from core_aids import Access, Way, by_open, count_one, look, nothing, put, rows

from chatsession import MemoryStorage, SessionManager
from chatsession.storages.sqlite import SQLiteStorage
from chatsession.testing.storages import MovableClock


@pytest.mark.parametrize("ttl", [10, 10.0, timedelta(seconds=10)])
async def test_16_an_expired_session_reads_as_missing(way: Way, storage: Any, clock: MovableClock, ttl: Any) -> None:
    counters = SessionManager(int, storage=storage, ttl=ttl)
    await way(counters, "chat", count_one)
    clock.advance(9)
    assert await counters.get("chat") == 1
    clock.advance(1)
    assert await counters.get("chat") is None
    assert [key async for key in counters.keys()] == []
    assert [entry async for entry in counters.entries()] == []
    await way(counters, "chat", count_one)
    assert await counters.get("chat") == 1


@pytest.mark.parametrize("handler", [look, count_one])
async def test_16_it_counts_from_the_last_access(way: Way, storage: Any, clock: MovableClock, handler: Any) -> None:
    counters = SessionManager(int, storage=storage, ttl=10)
    await way(counters, "chat", count_one)
    for _ in range(5):
        clock.advance(9)
        await way(counters, "chat", handler)
    assert await counters.get("chat") is not None
    clock.advance(10)
    assert await counters.get("chat") is None


async def test_16_a_look_by_get_is_no_access(storage: Any, clock: MovableClock) -> None:
    counters = SessionManager(int, storage=storage, ttl=10)
    await by_open(counters, "chat", count_one)
    clock.advance(9)
    assert await counters.get("chat") == 1
    clock.advance(1)
    assert await counters.get("chat") is None


async def test_16_a_failed_update_is_no_access(way: Way, storage: Any, clock: MovableClock) -> None:
    counters = SessionManager(int, storage=storage, ttl=10)
    await way(counters, "chat", count_one)
    clock.advance(9)

    async def fail(access: Access) -> None:
        await access.get()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await way(counters, "chat", fail)
    clock.advance(1)
    assert await counters.get("chat") is None


async def test_16_without_ttl_it_stays_for_ever(way: Way, storage: Any, clock: MovableClock) -> None:
    counters = SessionManager(int, storage=storage)
    await way(counters, "chat", count_one)
    clock.advance(10**9)
    assert await counters.get("chat") == 1


async def test_16_a_session_without_ttl_gets_one_when_a_manager_with_ttl_opens_it(
    storage: Any, clock: MovableClock
) -> None:
    await put(storage, "chat", b"1")
    counters = SessionManager(int, storage=storage, ttl=10)
    await by_open(counters, "chat", look)
    clock.advance(10)
    assert await counters.get("chat") is None


async def test_16_expired_bytes_go_away_without_being_read(storage: Any, clock: MovableClock) -> None:
    counters = SessionManager(int, storage=storage, ttl=10)
    for key in range(50):
        await by_open(counters, key, count_one)
    clock.advance(10)
    await by_open(counters, "new", count_one)
    if isinstance(storage, SQLiteStorage):
        assert await storage.sweep(limit=20) == 20
        assert await storage.sweep() == 30
        assert await rows(storage, "SELECT key FROM sessions") == [(b"new",)]
    else:
        await storage.sweep()
        assert repr(storage) == "<MemoryStorage: 1 sessions>"


async def test_16_a_session_that_expired_is_not_brought_back_by_looking_on(
    way: Way, storage: Any, clock: MovableClock
) -> None:
    counters = SessionManager(int, storage=storage, ttl=10)
    await way(counters, "chat", count_one)

    async def slow_look(access: Access) -> None:
        assert await access.get() == 1
        clock.advance(11)

    await way(counters, "chat", slow_look)
    assert await counters.get("chat") is None


async def test_16_a_session_that_expires_while_its_handler_changes_it_is_not_lost(
    storage: Any, clock: MovableClock
) -> None:
    counters = SessionManager(int, storage=storage, ttl=10, lock_lease=100)
    await by_open(counters, "chat", count_one)

    async def slow(access: Access) -> None:
        access.set(await access.get() + 1)
        clock.advance(11)

    await by_open(counters, "chat", slow)
    assert await counters.get("chat") == 2


async def test_16_a_new_session_counts_from_its_commit(way: Way, storage: Any, clock: MovableClock) -> None:
    counters = SessionManager(int, storage=storage, ttl=10)

    async def slow(access: Access) -> None:
        access.set(5)
        clock.advance(11)

    await way(counters, "chat", slow)
    clock.advance(9)
    assert await counters.get("chat") == 5


async def test_16_a_session_that_is_only_passed_by_is_no_access_if_lazy(storage: Any, clock: MovableClock) -> None:
    from core_aids import by_lazy

    counters = SessionManager(int, storage=storage, ttl=10)
    await by_lazy(counters, "chat", count_one)
    clock.advance(9)
    await by_lazy(counters, "chat", nothing)
    clock.advance(1)
    assert await counters.get("chat") is None


async def test_16_memory_storage_has_a_ttl_of_its_own(clock: MovableClock) -> None:
    async with SessionManager(int, storage=MemoryStorage(time_to_live=10, clock=clock)) as counters:
        await by_open(counters, "chat", count_one)
        clock.advance(10)
        assert await counters.get("chat") is None


@pytest.mark.parametrize("ttl", [0, -1, timedelta(0)])
def test_16_a_ttl_that_makes_no_sense(ttl: Any) -> None:
    with pytest.raises(ValueError, match="ttl takes a positive number of seconds"):
        SessionManager(int, storage="memory:", ttl=ttl)

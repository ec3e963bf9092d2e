"""Rules 5, 12 and 15: a cancellation at any moment leaves no lock, no half write, and lets the next one in."""

# ruff: noqa: SIM118 - small blocks read best where they stand

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from core_aids import (
    WAYS,
    Access,
    Context,
    Gate,
    LazyContext,
    Way,
    assert_nothing_is_held,
    by_lazy,
    by_open,
    count_one,
    steps,
)

from chatsession import MemoryStorage, SessionManager, multi_session
from chatsession.coordination.batching import Batcher
from chatsession.coordination.coordinator import coordinator_of
from chatsession.storages import Storage
from chatsession.storages.sqlite import SQLiteStorage

MOMENTS = range(40)


async def cancel_after(moment: int, doing: Awaitable[None], storage: Storage | None = None) -> bool:
    """Run it, cancel it after so many answers of the storage's thread and steps of the loop: did it get through?"""
    task = asyncio.ensure_future(doing)
    for _ in range(moment // 10):
        if isinstance(storage, SQLiteStorage):
            await steps(4)
            await storage.read_many(["another"])
    await steps(moment % 10 if isinstance(storage, SQLiteStorage) else moment)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return False
    return True


async def settle(storage: Storage) -> None:
    """SQLite's thread answers when it likes; this returns when all that was asked is answered."""
    await assert_nothing_is_held(storage)


async def test_an_update_cancelled_at_any_moment(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    await counters.start()
    expected = 0
    for moment in MOMENTS:
        before = await counters.get("chat") or 0
        through = await cancel_after(moment, way(counters, "chat", count_one), storage)
        await settle(storage)
        count = await counters.get("chat") or 0
        assert count in ((before + 1,) if through else (before, before + 1))
        expected = count + 1
        await asyncio.wait_for(way(counters, "chat", count_one), 120)
        assert await counters.get("chat") == expected
    await counters.aclose()


async def test_the_first_update_cancelled_at_any_moment_while_the_storage_opens(
    way: Way, make_storage: Callable[[], Storage]
) -> None:
    for moment in range(12):
        storage = make_storage()
        fresh = SessionManager(int, storage=storage, prefix=f"{moment}:")
        await cancel_after(moment, way(fresh, "chat", count_one))
        await asyncio.wait_for(way(fresh, "chat", count_one), 120)
        assert await fresh.get("chat") in (1, 2)
        await settle(storage)
        await fresh.aclose()
        assert not storage.is_open
        for thread in _threads_of(storage):
            thread.join(60)
            assert not thread.is_alive()


async def test_a_waiter_cancelled_at_any_moment_leaves_the_turn_to_the_next(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    for moment in range(12):
        gate = Gate()

        async def hold(access: Access, gate: Gate = gate) -> None:
            await access.get()
            await gate.pass_through()

        holder = asyncio.create_task(way(counters, moment, hold))
        await gate.reached.wait()
        waiting = [asyncio.create_task(way(counters, moment, count_one)) for _ in range(4)]
        await steps(2)
        gate.opened.set()
        await steps(moment)
        waiting[0].cancel()
        waiting[2].cancel()
        await asyncio.wait_for(asyncio.wait([holder, *waiting]), 120)
        assert (await counters.get(moment)) in (2, 3, 4)
        await settle(storage)


async def test_all_waiters_cancelled_at_once(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    for moment in range(8):
        waiting = [asyncio.create_task(way(counters, "chat", count_one)) for _ in range(10)]
        await steps(moment)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await settle(storage)
        await asyncio.wait_for(way(counters, "chat", count_one), 120)


async def test_a_waiter_for_another_process_cancelled_at_any_moment(make_storage: Callable[[], Storage]) -> None:
    async with make_storage() as mine, make_storage() as theirs:
        if not mine.shared:
            return
        here, there = SessionManager(int, storage=mine), SessionManager(int, storage=theirs)
        for moment in MOMENTS:
            async with there.open("chat"):
                assert not await cancel_after(moment, by_open(here, "chat", count_one), mine)
                await _drained(mine)
            await settle(mine)
            await settle(theirs)
        await asyncio.wait_for(by_open(here, "chat", count_one), 120)
        assert await here.get("chat") == 1


@pytest.mark.parametrize("fails", [False, True])
async def test_open_many_cancelled_at_any_moment(storage: Any, fails: bool) -> None:
    counters = SessionManager(int, storage=storage)
    keys = ["a", "b", "c"]

    async def count_all() -> None:
        async with counters.open_many(keys) as sessions:
            for s in sessions:
                s.data += 1
            if fails:
                raise ZeroDivisionError

    for moment in MOMENTS:
        try:
            await cancel_after(moment, count_all(), storage)
        except ZeroDivisionError:
            assert fails
        await settle(storage)
        await asyncio.wait_for(_count(counters, keys), 120)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_multi_session_cancelled_at_any_moment(storage: Any, lazy: bool, fails: bool) -> None:
    other = MemoryStorage()
    managers = {
        "a": SessionManager(int, storage=storage, prefix="a:"),
        "b": SessionManager(int, storage=storage, prefix="b:"),
        "c": SessionManager(int, storage=other),
    }
    middleware = multi_session(lazy=lazy, **managers)

    async def update() -> None:
        ctx = (LazyContext if lazy else Context)("chat")

        async def handler() -> None:
            for name in managers:
                value = getattr(ctx.session, name)
                setattr(ctx.session, name, (await value if lazy else value) + 1)
            if fails:
                raise ZeroDivisionError

        await middleware(ctx, handler)

    for moment in MOMENTS:
        try:
            await cancel_after(moment, update(), storage)
        except ZeroDivisionError:
            assert fails
        await settle(storage)
        await settle(other)
    for manager in managers.values():
        await asyncio.wait_for(by_open(manager, "chat", count_one), 120)


async def test_a_failed_update_cancelled_while_it_lets_go(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)

    async def fail(access: Access) -> None:
        await count_one(access)
        raise ZeroDivisionError

    for moment in MOMENTS:
        with pytest.raises((ZeroDivisionError, asyncio.CancelledError)):
            await cancel_after(moment, way(counters, "chat", fail), storage)
            raise ZeroDivisionError  # cancelled before it began
        await settle(storage)
        assert await counters.get("chat") is None


async def test_release_cancelled_at_any_moment(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)

    async def release(access: Access) -> None:
        await count_one(access)
        await access.release()
        await steps(2)

    for moment in MOMENTS:
        await cancel_after(moment, way(counters, "chat", release), storage)
        await settle(storage)
    await asyncio.wait_for(way(counters, "chat", count_one), 120)


async def test_a_save_that_was_cancelled_does_not_spoil_what_follows(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    for moment in range(8):

        async def handler(access: Access, moment: int = moment) -> None:
            access.set(100)
            await cancel_after(moment, access.save())
            access.set(200)

        await way(counters, moment, handler)
        assert await counters.get(moment) == 200


async def test_a_lazy_load_that_outlives_its_cancelled_update_keeps_no_lock(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    loading: list[asyncio.Task[Any]] = []

    async def handler(access: Access) -> None:
        loading.append(asyncio.create_task(access.get()))
        await asyncio.sleep(0)

    gate = Gate()

    async def hold(access: Access) -> None:
        await access.get()
        await gate.pass_through()

    holder = asyncio.create_task(by_lazy(counters, "chat", hold))
    await gate.reached.wait()
    update = asyncio.create_task(by_lazy(counters, "chat", handler))
    await steps(5)
    update.cancel()
    await asyncio.wait([update], timeout=0.05)
    gate.opened.set()
    await holder
    await asyncio.wait([update, *loading])
    for task in loading:
        task.cancelled() or task.exception()
    await settle(storage)
    await asyncio.wait_for(by_lazy(counters, "chat", count_one), 120)


async def test_update_cancelled_at_any_moment(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    for moment in MOMENTS:
        before = await counters.get("chat") or 0
        through = await cancel_after(moment, counters.update("chat", lambda count: count + 1), storage)
        await settle(storage)
        assert (await counters.get("chat") or 0) in ((before + 1,) if through else (before, before + 1))


async def test_get_and_enumerations_cancelled_at_any_moment(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    await counters.update("chat", lambda count: count + 1)

    async def enumerate_all() -> None:
        _ = [key async for key in counters.keys()]
        _ = [entry async for entry in counters.entries()]

    for moment in range(12):
        await cancel_after(moment, counters.get("chat"))  # type: ignore[arg-type]
        await cancel_after(moment, enumerate_all())
    await settle(storage)
    await asyncio.wait_for(counters.aclose(), 120)


async def test_cancelled_twice(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    for way in WAYS.values():
        for moment in range(0, 30, 2):
            task = asyncio.create_task(way(counters, "chat", count_one))
            await steps(moment)
            task.cancel()
            await steps(1)
            task.cancel()
            await asyncio.wait([task])
            await settle(storage)
    await asyncio.wait_for(by_open(counters, "chat", count_one), 120)


async def _count(counters: SessionManager[int], keys: list[str]) -> None:
    async with counters.open_many(keys) as sessions:
        for s in sessions:
            s.data += 1


async def _drained(storage: Storage) -> None:
    coordinator = coordinator_of(storage)
    for slot in coordinator.__slots__:
        if isinstance(batches := getattr(coordinator, slot, None), Batcher):
            await batches.drain()


def _threads_of(storage: Storage) -> list[threading.Thread]:
    if not isinstance(storage, SQLiteStorage):
        return []
    return [thread for thread in threading.enumerate() if str(storage._path) in thread.name]

"""Rules 12 to 15a: order, no lost update, conflicts, and no deadlock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
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
    look,
    put,
    steps,
    value_of,
)

from chatsession import (
    MemoryStorage,
    SessionClosedError,
    SessionConflictError,
    SessionDecodeError,
    SessionEncodeError,
    SessionError,
    SessionLockTimeoutError,
    SessionManager,
    multi_session,
)
from chatsession.coordination.coordinator import coordinator_of
from chatsession.storages import Storage
from chatsession.testing.storages import MovableClock


@pytest.fixture
def counters(storage: Any) -> SessionManager[int]:
    return SessionManager(int, storage=storage)


async def test_12_no_update_is_lost(way: Way, counters: SessionManager[int]) -> None:
    await asyncio.gather(*(way(counters, "chat", count_one) for _ in range(100)))
    assert await counters.get("chat") == 100


async def test_12_updates_of_one_key_run_in_order_of_arrival(way: Way, storage: Any) -> None:
    lists = SessionManager(list[int], storage=storage)

    def append(number: int) -> Any:
        async def handler(access: Access) -> None:
            values = await access.get()
            await steps(number % 3)
            values.append(number)

        return handler

    await asyncio.gather(*(way(lists, "chat", append(number)) for number in range(80)))
    assert await lists.get("chat") == list(range(80))


async def test_12_different_keys_run_in_parallel(way: Way, counters: SessionManager[int]) -> None:
    together = asyncio.Barrier(20)

    async def handler(access: Access) -> None:
        await access.get()
        await together.wait()

    await asyncio.gather(*(way(counters, key, handler) for key in range(20)))


async def test_12_managers_of_one_storage_wait_for_each_other(storage: Any) -> None:
    one, other = SessionManager(int, storage=storage), SessionManager(int, storage=storage)
    await asyncio.gather(*(by_open(manager, "chat", count_one) for manager in (one, other) * 30))
    assert await one.get("chat") == 60


async def test_12_all_ways_wait_for_each_other(counters: SessionManager[int]) -> None:
    await asyncio.gather(*(way(counters, "chat", count_one) for way in [*WAYS.values()] * 20))
    await asyncio.gather(*(counters.update("chat", lambda count: count + 1) for _ in range(20)))
    assert await counters.get("chat") == 80


async def test_12_two_storages_of_one_file_play_two_processes(make_storage: Callable[[], Storage]) -> None:
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(make_storage()) for _ in range(2)]
        if not storages[0].shared:
            return
        managers = [SessionManager(int, storage=storage) for storage in storages]
        await asyncio.gather(*(by_open(manager, "chat", count_one) for manager in managers * 40))
        assert await managers[0].get("chat") == 80


async def test_12_who_lost_the_lease_gets_a_conflict_and_never_overwrites(
    make_storage: Callable[[], Storage], clock: MovableClock
) -> None:
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(make_storage()) for _ in range(2)]
        if not storages[0].shared:
            return
        stalled, other = (SessionManager(int, storage=storage, lock_lease=20) for storage in storages)
        with pytest.raises(SessionConflictError, match="nothing was written") as caught:
            async with stalled.open("chat") as s:
                s.data = 100
                clock.advance(21)
                async with other.open("chat") as o:
                    o.data = 1
        assert caught.value.key == "chat"
        assert await stalled.get("chat") == 1
        await assert_nothing_is_held(storages[0])


async def test_12_a_save_after_the_lease_was_lost_is_a_conflict(sqlite: Any, clock: MovableClock) -> None:
    counters = SessionManager(int, storage=sqlite, lock_lease=20)
    with pytest.raises(SessionConflictError):
        async with counters.open("chat") as s:
            s.data = 1
            clock.advance(21)
            await s.save()
    assert await counters.get("chat") is None


async def test_13_optimistic_handlers_run_in_parallel_and_the_loser_gets_a_conflict(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage, concurrency="optimistic")
    together = asyncio.Barrier(5)

    async def handler(access: Access) -> None:
        count = await access.get()
        await together.wait()
        access.set(count + 1)

    results = await asyncio.gather(*(way(counters, "chat", handler) for _ in range(5)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["NoneType"] + ["SessionConflictError"] * 4
    assert await counters.get("chat") == 1


async def test_13_optimistic_a_late_commit_does_not_bring_a_deleted_session_back(storage: Any) -> None:
    counters = SessionManager(int, storage=storage, concurrency="optimistic")
    await counters.update("chat", lambda count: count + 1)
    with pytest.raises(SessionConflictError):
        async with counters.open("chat") as late:
            late.data += 1
            async with counters.open("chat") as s:
                s.data = None  # type: ignore[assignment]
    assert await counters.get("chat") is None


async def test_13_optimistic_a_late_deletion_does_not_delete_what_it_has_not_seen(storage: Any) -> None:
    counters = SessionManager(int, storage=storage, concurrency="optimistic")
    await counters.update("chat", lambda count: count + 1)
    with pytest.raises(SessionConflictError):
        async with counters.open("chat") as late:
            late.data = None  # type: ignore[assignment]
            await counters.update("chat", lambda count: count + 1)
    assert await counters.get("chat") == 2


async def test_13_optimistic_looking_never_conflicts(storage: Any) -> None:
    counters = SessionManager(int, storage=storage, concurrency="optimistic", ttl=10)
    await counters.update("chat", lambda count: count + 1)
    async with counters.open("chat") as s:
        await counters.update("chat", lambda count: count + 1)
        assert s.data == 1
    assert await counters.get("chat") == 2


async def test_14_last_write_wins(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage, concurrency="last-write-wins")

    async def outer(access: Access) -> None:
        await access.get()
        await way(counters, "chat", inner)
        access.set(1)

    async def inner(access: Access) -> None:
        access.set(100)

    await way(counters, "chat", outer)
    assert await counters.get("chat") == 1


async def test_15_a_key_that_the_task_holds_is_an_error_at_once(way: Way, counters: SessionManager[int]) -> None:
    async def outer(access: Access) -> None:
        access.set(await access.get() + 1)
        with pytest.raises(SessionError, match="open already") as caught:
            await way(counters, "chat", look)
        assert caught.value.key == "chat"
        with pytest.raises(SessionError, match="open already"):
            await counters.update("chat", lambda count: count + 1)

    await way(counters, "chat", outer)
    assert await counters.get("chat") == 1


async def test_15_a_key_that_the_task_holds_may_be_looked_at(counters: SessionManager[int]) -> None:
    await counters.update("chat", lambda count: count + 1)
    async with counters.open("chat") as s:
        s.data = 5
        assert await counters.get("chat") == 1


async def test_15_after_its_end_the_same_task_may_open_it_again(way: Way, counters: SessionManager[int]) -> None:
    for _ in range(3):
        await way(counters, "chat", count_one)
    assert await counters.get("chat") == 3


async def test_15_the_same_key_twice_in_open_many_is_an_error_at_once(counters: SessionManager[int]) -> None:
    with pytest.raises(SessionError, match="open already"):
        async with counters.open_many(["a", "b", "a"]):
            raise AssertionError("not reached")
    await by_open(counters, "a", count_one)


async def test_15_waiting_longer_than_lock_timeout(way: Way, storage: Any) -> None:
    patient = SessionManager(int, storage=storage)
    hasty = SessionManager(int, storage=storage, lock_timeout=0.01)
    held, let_go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with patient.open("chat") as s:
            s.data = 1
            held.set()
            await let_go.wait()

    async def impatient() -> None:
        with pytest.raises(SessionLockTimeoutError, match="lock_timeout") as caught:
            await way(hasty, "chat", look)
        assert caught.value.key == "chat"

    async with asyncio.TaskGroup() as group:
        group.create_task(hold())
        await held.wait()
        await asyncio.gather(impatient(), impatient())
        let_go.set()
    await way(hasty, "chat", count_one)
    assert await patient.get("chat") == 2


async def test_15_waiting_longer_than_lock_timeout_for_another_process(make_storage: Callable[[], Storage]) -> None:
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(make_storage()) for _ in range(2)]
        if not storages[0].shared:
            return
        here = SessionManager(int, storage=storages[0], lock_timeout=0.01)
        there = SessionManager(int, storage=storages[1])
        async with there.open("chat"):
            with pytest.raises(SessionLockTimeoutError, match="another process"):
                await by_open(here, "chat", look)
        await assert_nothing_is_held(storages[0])
        await by_open(SessionManager(int, storage=storages[0]), "chat", count_one)


async def test_15_one_that_timed_out_does_not_stop_those_behind_it(storage: Any) -> None:
    patient = SessionManager(int, storage=storage)
    hasty = SessionManager(int, storage=storage, lock_timeout=0.01)
    gate = Gate()

    async def hold(access: Access) -> None:
        await gate.pass_through()

    async with asyncio.TaskGroup() as group:
        group.create_task(by_open(patient, "chat", hold))
        await gate.reached.wait()
        late = group.create_task(asyncio.wait_for(_raises(by_open(hasty, "chat", look)), 120))
        await steps(2)
        behind = [group.create_task(by_open(patient, "chat", count_one)) for _ in range(3)]
        assert isinstance(await late, SessionLockTimeoutError)
        gate.opened.set()
        await asyncio.wait(behind)
    assert await patient.get("chat") == 3


async def test_15_open_many_in_reversed_orders_never_deadlocks(counters: SessionManager[int]) -> None:
    keys = ["a", "b", "c", "d"]

    async def count_all(order: list[str]) -> None:
        async with counters.open_many(order) as sessions:
            assert [s.key for s in sessions] == order
            await asyncio.sleep(0)
            for s in sessions:
                s.data += 1

    orders = [random.Random(n).sample(keys, len(keys)) for n in range(40)]
    await asyncio.wait_for(asyncio.gather(*map(count_all, orders)), 120)
    assert {key: count async for key, count in counters.entries()} == dict.fromkeys(keys, 40)


async def test_15_open_many_across_processes_never_deadlocks(make_storage: Callable[[], Storage]) -> None:
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(make_storage()) for _ in range(2)]
        if not storages[0].shared:
            return
        managers = [SessionManager(int, storage=storage) for storage in storages]

        async def count_all(manager: SessionManager[int], order: list[str]) -> None:
            async with manager.open_many(order) as sessions:
                for s in sessions:
                    s.data += 1

        jobs = [count_all(managers[n % 2], ["a", "b", "c"][:: 1 if n % 4 < 2 else -1]) for n in range(24)]
        await asyncio.wait_for(asyncio.gather(*jobs), 120)
        assert {count async for _, count in managers[0].entries()} == {24}


async def test_15_open_many_that_overlap_in_a_circle_never_deadlock(make_storage: Callable[[], Storage]) -> None:
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(make_storage()) for _ in range(3)]
        if not storages[0].shared:
            return
        a, b, c = (SessionManager(int, storage=storage, lock_timeout=60) for storage in storages)
        done = 0

        async def count_both(manager: SessionManager[int], keys: str) -> None:
            nonlocal done
            for _ in range(15):
                async with manager.open_many(keys) as sessions:
                    for s in sessions:
                        s.data += 1
                    await steps(3)
                    done += 1

        await asyncio.gather(count_both(a, "xy"), count_both(b, "yz"), count_both(c, "zx"))
        assert done == 45
        assert {key: count async for key, count in a.entries()} == dict.fromkeys("xyz", 30)


async def test_15_waiters_that_gave_up_are_forgotten_while_the_key_is_still_held(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    hasty = SessionManager(int, storage=storage, lock_timeout=0.01)
    async with counters.open("chat"):
        waiting = [asyncio.create_task(by_open(counters, "chat", look)) for _ in range(5)]
        late = [asyncio.create_task(_raises(by_open(hasty, "chat", look))) for _ in range(5)]
        await asyncio.wait(late)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert coordinator_of(storage).queue._queues == {}


@pytest.mark.parametrize("lazy", [False, True])
async def test_15_multi_sessions_over_two_storages_in_reversed_orders(storage: Any, lazy: bool) -> None:
    async with MemoryStorage() as second:
        a, b = SessionManager(int, storage=storage), SessionManager(int, storage=second)
        forth, back = multi_session(lazy=lazy, a=a, b=b), multi_session(lazy=lazy, b=b, a=a)

        async def update(middleware: Any) -> None:
            ctx = (LazyContext if lazy else Context)("chat")

            async def handler() -> None:
                if lazy:
                    ctx.session.a = await ctx.session.a + 1
                    await asyncio.sleep(0)
                    ctx.session.b = await ctx.session.b + 1
                else:
                    ctx.session.a += 1
                    await asyncio.sleep(0)
                    ctx.session.b += 1

            await middleware(ctx, handler)

        await asyncio.wait_for(asyncio.gather(*map(update, (forth, back) * 20)), 120)
        assert (await a.get("chat"), await b.get("chat")) == (40, 40)
        await a.aclose()
        await b.aclose()


async def test_15_open_many_of_nothing(counters: SessionManager[int]) -> None:
    async with counters.open_many([]) as sessions:
        assert sessions == []


async def test_open_many_writes_none_if_one_cannot_be_stored(storage: Any, counters: SessionManager[int]) -> None:
    with pytest.raises(SessionEncodeError):
        async with counters.open_many(["a", "b", "c"]) as sessions:
            sessions[0].data = 1
            sessions[1].data = object()  # type: ignore[assignment]
            sessions[2].data = 3
    assert storage.writes == []


async def test_open_many_a_failure_inside_writes_none(storage: Any, counters: SessionManager[int]) -> None:
    with pytest.raises(ZeroDivisionError):
        async with counters.open_many(["a", "b"]) as sessions:
            sessions[0].data = 1
            raise ZeroDivisionError
    assert storage.writes == []


async def test_open_many_where_one_does_not_load_holds_none(storage: Any, counters: SessionManager[int]) -> None:
    texts = SessionManager(str, storage=storage)
    await texts.update("b", lambda text: text + "x")
    with pytest.raises(SessionDecodeError):
        async with counters.open_many(["a", "b", "c"]):
            raise AssertionError("not reached")
    assert await texts.get("b") == "x"
    await by_open(counters, "c", count_one)


async def test_15a_after_release_the_next_update_runs(way: Way, counters: SessionManager[int]) -> None:
    async def streaming(access: Access) -> None:
        await count_one(access)
        await access.release()
        await asyncio.wait_for(asyncio.create_task(way(counters, "chat", count_one)), 120)
        assert await counters.get("chat") == 2
        await counters.update("chat", lambda count: count + 10)

    await way(counters, "chat", streaming)
    assert await counters.get("chat") == 12


async def test_15a_released_the_same_task_may_open_it_anew(way: Way, counters: SessionManager[int]) -> None:
    async def streaming(access: Access) -> None:
        await access.release()
        await way(counters, "chat", count_one)

    await way(counters, "chat", streaming)
    assert await counters.get("chat") == 1


async def test_15a_released_it_may_be_read_but_not_assigned(way: Way, counters: SessionManager[int]) -> None:
    async def streaming(access: Access) -> None:
        access.set(5)
        await access.release()
        assert await access.get() == 5
        for value in (6, None):
            with pytest.raises(SessionClosedError, match="released"):
                access.set(value)
        with pytest.raises(SessionClosedError, match="released"):
            await access.save()
        with pytest.raises(SessionClosedError, match="released"):
            await access.release()

    await way(counters, "chat", streaming)
    assert await counters.get("chat") == 5


@pytest.mark.parametrize("stored", [None, b"[1]"])
@pytest.mark.parametrize("read_before", [False, True])
async def test_15a_released_reading_is_no_change(
    way: Way, storage: Any, stored: bytes | None, read_before: bool
) -> None:
    lists = SessionManager(list[int], storage=storage)
    if stored:
        await put(storage, "chat", stored)

    async def streaming(access: Access) -> None:
        if read_before:
            await access.get()
        await access.release()
        assert await access.get() == ([1] if stored else [])

    await way(lists, "chat", streaming)


@pytest.mark.parametrize("stored", [None, b"[1]"])
@pytest.mark.parametrize("read_before", [False, True])
async def test_15a_released_a_change_inside_the_data_is_told_and_not_lost_silently(
    way: Way, storage: Any, stored: bytes | None, read_before: bool
) -> None:
    lists = SessionManager(list[int], storage=storage)
    if stored:
        await put(storage, "chat", stored)

    async def streaming(access: Access) -> None:
        if read_before or way is by_lazy:  # a lazy session that nobody asked for is not open, so not released
            await access.get()
        await access.release()
        (await access.get()).append(7)

    with pytest.raises(SessionClosedError, match="changed after it was released"):
        await way(lists, "chat", streaming)
    assert await value_of(storage, "chat") in (stored, b"[]")


async def test_15a_released_a_failure_afterwards_keeps_what_was_committed(way: Way, counters: Any) -> None:
    async def streaming(access: Access) -> None:
        await count_one(access)
        await access.release()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await way(counters, "chat", streaming)
    assert await counters.get("chat") == 1


async def test_15a_released_in_open_many_lets_the_others_be(counters: SessionManager[int]) -> None:
    async with counters.open_many(["a", "b"]) as (a, b):
        a.data = b.data = 1
        await a.release()
        await by_open(counters, "a", count_one)
        b.data = 2
    assert (await counters.get("a"), await counters.get("b")) == (2, 2)


async def test_15a_release_that_cannot_store_ends_the_session(counters: SessionManager[int]) -> None:
    async with counters.open("chat") as s:
        s.data = object()  # type: ignore[assignment]
        with pytest.raises(SessionEncodeError):
            await s.release()
        with pytest.raises(SessionClosedError):
            _ = s.data
        await by_open(counters, "chat", count_one)


async def test_a_key_passed_on_often_is_given_to_other_processes_too(make_storage: Callable[[], Storage]) -> None:
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(make_storage()) for _ in range(2)]
        if not storages[0].shared:
            return
        here, there = (SessionManager(list[str], storage=storage) for storage in storages)

        def append(name: str) -> Any:
            async def handler(access: Access) -> None:
                (await access.get()).append(name)

            return handler

        served = asyncio.Event()

        async def keep_busy() -> None:
            while not served.is_set():
                await by_open(here, "chat", append("here"))

        busy = [asyncio.create_task(keep_busy()) for _ in range(20)]
        await steps(1)
        async with asyncio.timeout(120):
            await by_open(there, "chat", append("there"))
        served.set()
        await asyncio.gather(*busy)
        found = await here.get("chat")
        assert found is not None
        assert "here" in found[found.index("there") :]
        assert coordinator_of(storages[0]).queue._queues == {}


async def _raises(doing: Any) -> BaseException | None:
    try:
        await doing
    except SessionError as error:
        return error
    return None

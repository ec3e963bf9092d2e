"""How long an update waits for its key, and what it is given then (rule 15)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from core_aids import Gate, LazyContext, steps

from chatsession import (
    SessionConflictError,
    SessionError,
    SessionLockTimeoutError,
    SessionManager,
    Storage,
    multi_session,
    open_storage,
)
from chatsession.coordination.coordinator import coordinator_of
from chatsession.unit_of_work import lending


async def add(counters: SessionManager[int], key: str, gate: Gate | None = None) -> None:
    async with counters.open(key) as s:
        if gate is not None:
            await gate.pass_through()
        s.data += 1


class LoopTime:
    """The time of the event loop, which only the test moves, however long the machine takes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = loop.time()

    async def pass_by(self, seconds: float, storage: Storage) -> None:
        """Let time pass, and those who wait then ask the storage, and have its answer."""
        self.now += seconds
        await steps(3)
        coordinator = coordinator_of(storage)
        for calls in (coordinator._locks, coordinator._reads):
            await calls.drain()
        await steps(3)


@pytest.fixture
async def loop_time(monkeypatch: pytest.MonkeyPatch) -> LoopTime:
    loop = asyncio.get_running_loop()
    loop_time = LoopTime(loop)
    monkeypatch.setattr(loop, "time", lambda: loop_time.now)
    return loop_time


async def test_15_a_long_queue_that_progresses_does_not_time_out(storage: Any, loop_time: LoopTime) -> None:
    counters = SessionManager(int, storage=storage, lock_timeout=0.5)

    async def slowly() -> None:
        async with counters.open("chat") as s:
            await loop_time.pass_by(0.2, storage)
            s.data += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(slowly())
    assert await counters.get("chat") == 6


async def test_15_no_lock_timeout_waits_for_ever(storage: Any) -> None:
    counters = SessionManager(int, storage=storage, lock_timeout=None)
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        group.create_task(add(counters, "chat", gate))
        await gate.reached.wait()
        group.create_task(add(counters, "chat"))
        await steps(5)
        gate.opened.set()
    assert await counters.get("chat") == 2


@pytest.mark.parametrize("waiting", [1, 3], ids=["alone", "in a queue"])
async def test_15_progress_in_another_process_counts(
    make_storage: Callable[[], Storage], waiting: int, loop_time: LoopTime
) -> None:
    """Also for those who queue in this process behind the one that waits for the other process."""
    async with make_storage() as one, make_storage() as other:
        if not one.shared:
            return
        there = SessionManager(int, storage=one)
        here = SessionManager(int, storage=other, lock_timeout=0.6)
        async with there.open("chat") as s:
            waits = asyncio.gather(*(add(here, "chat") for _ in range(waiting)))
            for _ in range(8):
                s.data += 1
                await s.save()
                await loop_time.pass_by(0.25, other)
        while not waits.done():
            await loop_time.pass_by(0.05, other)
        await waits
        assert await here.get("chat") == 8 + waiting


async def test_15_all_who_queue_give_up_together(make_storage: Callable[[], Storage], loop_time: LoopTime) -> None:
    async with make_storage() as one, make_storage() as other:
        if not one.shared:
            return
        there = SessionManager(int, storage=one)
        here = SessionManager(int, storage=other, lock_timeout=0.3)
        async with there.open("chat"):
            waits = asyncio.gather(*(add(here, "chat") for _ in range(20)), return_exceptions=True)
            started = loop_time.now
            while not waits.done():
                await loop_time.pass_by(0.05, other)
            assert loop_time.now - started < 2 * 0.3
        assert {type(result) for result in await waits} == {SessionLockTimeoutError}


@pytest.mark.parametrize("by", ["wait_for", "gather", "shield", "task", "group", "wait", "as_completed"])
async def test_15_a_task_that_is_awaited_inside_is_told_at_once(storage: Any, by: str) -> None:
    counters = SessionManager(int, storage=storage)

    async def inside() -> None:
        await counters.update("chat", lambda count: count + 1)

    async def in_a_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(inside())

    async def wait() -> None:
        (task,), _ = await asyncio.wait([asyncio.ensure_future(inside())])
        await task

    async def as_completed() -> None:
        for done in asyncio.as_completed([inside()]):
            await done

    ways: dict[str, Callable[[], Any]] = {
        "wait_for": lambda: asyncio.wait_for(inside(), 60),
        "gather": lambda: asyncio.gather(inside()),
        "shield": lambda: asyncio.shield(inside()),
        "task": lambda: asyncio.create_task(inside()),
        "group": in_a_group,
        "wait": wait,
        "as_completed": as_completed,
    }
    with pytest.raises((SessionError, ExceptionGroup)) as caught:
        async with counters.open("chat"):
            await ways[by]()
    error = caught.value.exceptions[0] if isinstance(caught.value, ExceptionGroup) else caught.value
    assert isinstance(error, SessionError)
    assert not isinstance(error, SessionLockTimeoutError)
    assert "for ever" in str(error)


async def test_15_two_that_wait_for_each_other_are_told_at_once(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    both = asyncio.Barrier(2)

    async def nest(first: str, second: str) -> None:
        async with counters.open(first):
            await both.wait()
            await counters.update(second, lambda count: count + 1)

    results = await asyncio.gather(nest("a", "b"), nest("b", "a"), return_exceptions=True)
    told = [result for result in results if isinstance(result, SessionError)]
    assert len(told) == 1
    assert "for ever" in str(told[0])


@pytest.mark.parametrize("changed", [False, True], ids=["read", "changed"])
async def test_15_lazy_sessions_in_opposite_orders_in_two_processes(
    tmp_path: Path, changed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that locks out of order lets the other go first. If its session is changed then, its update fails."""
    monkeypatch.setattr(lending, "_PATIENCE", 0.1)
    met = asyncio.Barrier(2)

    def process() -> tuple[SessionManager[int], Any]:
        storage = open_storage(f"sqlite:///{tmp_path}/bot.db")
        first, second = (SessionManager(int, storage=storage, prefix=prefix) for prefix in "ab")
        return second, multi_session(lazy=True, first=first, second=second)

    async def use(middleware: Any, names: tuple[str, str], written: str) -> None:
        ctx = LazyContext("chat")

        async def handler() -> None:
            for name in names:
                value = await getattr(ctx.session, name)
                if name in written:
                    setattr(ctx.session, name, value + 1)
                if name == names[0]:
                    await met.wait()

        await middleware(ctx, handler)

    (counters, one), (_, other) = process(), process()
    async with one, other:
        await counters.storage.sweep()  # by now it knows of the other process
        await counters.put("chat", 0)
        forth = use(one, ("first", "second"), "first second" if changed else "first")
        back = use(other, ("second", "first"), "second first")
        results = await asyncio.gather(forth, back, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), SessionConflictError if changed else type(None)]
        assert await counters.get("chat") == 1


async def test_15_a_task_that_nobody_awaits_may_wait(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    async with counters.open("chat") as s:
        s.data = 1
        later = asyncio.create_task(counters.update("chat", lambda count: count + 1))
        await steps(5)
    assert await later == 2


async def test_12_after_a_refused_save_the_next_update_reads(make_storage: Callable[[], Storage]) -> None:
    async with make_storage() as storage:
        texts = SessionManager(list[str], storage=storage)
        blind = SessionManager(list[str], storage=storage, concurrency="last-write-wins")
        gate = Gate()

        async def refused() -> None:
            async with texts.open("chat") as s:
                s.data.append("lost")
                await gate.pass_through()
                await blind.put("chat", ["paid"])
                with pytest.raises(SessionConflictError):
                    await s.save()
                raise RuntimeError("the handler fails")

        async with asyncio.TaskGroup() as group:
            failing = group.create_task(asyncio.wait_for(_quiet(refused()), 60))
            await gate.reached.wait()
            next_one = group.create_task(texts.update("chat", lambda found: [*found, "next"]))
            await steps(5)
            gate.opened.set()
        assert isinstance(await failing, RuntimeError)
        assert await next_one == ["paid", "next"]


async def _quiet(doing: Any) -> BaseException | None:
    try:
        await doing
    except Exception as error:
        return error
    return None

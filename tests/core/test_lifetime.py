"""Rule 8, closing and draining, bounded memory, and the end of the program."""

# ruff: noqa: SIM118 - small blocks read best where they stand

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
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
    by_open,
    count_one,
    look,
    steps,
)

from chatsession import MemoryStorage, SessionClosedError, SessionManager, multi_session, session
from chatsession.coordination.batching import Batcher
from chatsession.coordination.coordinator import coordinator_of
from chatsession.coordination.leases import Asked, LeaseRenewer
from chatsession.storages import Lease, LockRequest, Storage


async def test_8_a_task_left_running_gets_an_error_and_not_a_silent_loss(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    for middleware, ctx in ((counters.middleware(), Context()), (counters.lazy_middleware(), LazyContext())):
        await middleware(ctx, lambda: steps(1))
        with pytest.raises(SessionClosedError, match="after its update was done"):
            _ = ctx.session
        with pytest.raises(SessionClosedError, match="after its update was done"):
            ctx.session = 5
        with pytest.raises(SessionClosedError):
            await ctx.save_session()
        with pytest.raises(SessionClosedError):
            await ctx.release_session()


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("several", [False, True])
async def test_an_ended_update_is_freed_without_a_collection(lazy: bool, several: bool) -> None:
    counters = SessionManager(int, storage=MemoryStorage())
    middleware = counters.lazy_middleware() if lazy else counters.middleware()

    async def update() -> weakref.ref[Any]:
        ctx = (LazyContext if lazy else Context)()

        async def count() -> None:
            holder = ctx.session.a if several else ctx.session
            _ = await holder if lazy else holder

        await (multi_session(lazy=lazy, a=counters) if several else middleware)(ctx, count)
        return weakref.ref(ctx)

    gc.disable()
    try:
        assert (await update())() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("lazy", [False, True])
async def test_8_in_a_multi_session_too(storage: Any, lazy: bool) -> None:
    middleware = multi_session(lazy=lazy, a=SessionManager(int, storage=storage))
    ctx = (LazyContext if lazy else Context)()
    await middleware(ctx, lambda: steps(1))
    with pytest.raises(SessionClosedError):
        _ = ctx.session.a
    with pytest.raises(SessionClosedError):
        ctx.session.a = 1


async def test_8_after_a_failed_update_too(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    ctx = Context()

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await counters.middleware()(ctx, fail)
    with pytest.raises(SessionClosedError):
        _ = ctx.session


async def test_8_a_session_is_used_after_its_block(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    session = counters.open("chat")
    with pytest.raises(SessionClosedError, match="not open yet"):
        _ = session.data
    async with session:
        pass
    with pytest.raises(SessionClosedError, match="'chat'"):
        _ = session.data
    with pytest.raises(SessionClosedError, match="'chat'"):
        session.data = 1
    with pytest.raises(SessionClosedError, match="used before"):
        async with session:
            pass


async def test_aclose_waits_for_open_sessions_and_those_that_wait(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    gate = Gate()

    async def hold(access: Access) -> None:
        count = await access.get()
        await gate.pass_through()
        access.set(count + 1)

    holder = asyncio.create_task(way(counters, "chat", hold))
    await gate.reached.wait()
    waiter = asyncio.create_task(way(counters, "chat", count_one))
    await steps(5)
    closing = asyncio.create_task(counters.aclose())
    await steps(5)
    assert not closing.done()
    gate.opened.set()
    await asyncio.gather(holder, waiter, closing)
    assert await SessionManager(int, storage=storage).get("chat") == 2


async def test_aclose_refuses_new_sessions(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    await way(counters, "chat", count_one)
    await counters.aclose()
    with pytest.raises(SessionClosedError, match="manager is closed"):
        await way(counters, "chat", look)
    with pytest.raises(SessionClosedError, match="manager is closed"):
        await counters.get("chat")
    with pytest.raises(SessionClosedError, match="manager is closed"):
        await counters.update("chat", lambda count: count + 1)
    with pytest.raises(SessionClosedError, match="manager is closed"):
        async with counters.open_many(["a", "b"]):
            pass


async def test_aclose_refuses_enumerations_too(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    await counters.aclose()
    with pytest.raises(SessionClosedError, match="manager is closed"):
        _ = [key async for key in counters.keys()]
    with pytest.raises(SessionClosedError, match="manager is closed"):
        _ = [entry async for entry in counters.entries()]


async def test_aclose_refuses_new_sessions_while_it_waits(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    async with counters.open("chat"):
        closing = asyncio.create_task(counters.aclose())
        await steps(3)
        with pytest.raises(SessionClosedError):
            await asyncio.create_task(by_open(counters, "other", look))
    await closing


async def test_a_closed_manager_can_be_started_again(way: Way, make_storage: Callable[[], Storage]) -> None:
    storage = make_storage()
    counters = SessionManager(int, storage=storage)
    for number in range(1, 4):
        async with counters:
            await way(counters, "chat", count_one)
            assert await counters.get("chat") == number
            assert storage.is_open
        assert not storage.is_open


async def test_aclose_may_be_called_twice_at_once_and_before_any_use(make_storage: Callable[[], Storage]) -> None:
    counters = SessionManager(int, storage=make_storage())
    await counters.aclose()
    await counters.start()
    await asyncio.gather(counters.aclose(), counters.aclose())
    await counters.aclose()
    assert not counters.storage.is_open


async def test_aclose_gives_up_after_its_timeout_and_says_so(
    make_storage: Callable[[], Storage], caplog: pytest.LogCaptureFixture
) -> None:
    counters = SessionManager(int, storage=make_storage())
    gate = Gate()

    async def hold(access: Access) -> None:
        access.set(1)
        await gate.pass_through()

    holder = asyncio.create_task(by_open(counters, "chat", hold))
    await gate.reached.wait()
    await asyncio.wait_for(counters.aclose(timeout=0.01), 120)
    assert "1 sessions were still open" in caplog.text
    gate.opened.set()
    await asyncio.wait([holder], timeout=120)
    assert holder.done()
    holder.exception()


async def test_aclose_while_the_storage_opens(make_storage: Callable[[], Storage]) -> None:
    for moment in range(8):
        storage = make_storage()
        counters = SessionManager(int, storage=storage)
        first = asyncio.create_task(by_open(counters, "chat", count_one))
        await steps(moment)
        await asyncio.wait_for(counters.aclose(), 120)
        await asyncio.wait([first])
        assert first.exception() is None or isinstance(first.exception(), SessionClosedError)
        assert not storage.is_open
        with pytest.raises(SessionClosedError):
            await by_open(counters, "chat", look)


async def test_a_storage_of_two_managers_stays_open_until_the_last(make_storage: Callable[[], Storage]) -> None:
    storage = make_storage()
    one, other = SessionManager(int, storage=storage), SessionManager(int, storage=storage)
    await one.start()
    await other.start()
    await one.aclose()
    assert storage.is_open
    await by_open(other, "chat", count_one)
    await other.aclose()
    assert not storage.is_open


async def test_a_manager_that_comes_while_the_last_one_goes(make_storage: Callable[[], Storage]) -> None:
    for moment in range(8):
        storage = make_storage()
        one, other = SessionManager(int, storage=storage), SessionManager(int, storage=storage)
        await by_open(one, "chat", count_one)
        closing = asyncio.create_task(one.aclose())
        await steps(moment)
        await asyncio.wait_for(by_open(other, "chat", count_one), 120)
        await closing
        await asyncio.wait_for(by_open(other, "chat", count_one), 120)
        await other.aclose()
        assert not storage.is_open


async def test_a_storage_that_the_user_opened_stays_open(make_storage: Callable[[], Storage]) -> None:
    async with make_storage() as storage:
        async with SessionManager(int, storage=storage) as counters:
            await by_open(counters, "chat", count_one)
        assert storage.is_open
        assert await SessionManager(int, storage=storage).get("chat") == 1


async def test_a_middleware_closes_its_storage(tmp_path: Path) -> None:
    middleware = session(int, storage=f"sqlite:///{tmp_path / 'bot.db'}")
    async with middleware:
        await middleware(Context(), lambda: steps(1))
        assert middleware.manager.storage.is_open
    assert not middleware.manager.storage.is_open


async def test_several_first_updates_at_once_open_once(way: Way, make_storage: Callable[[], Storage]) -> None:
    counters = SessionManager(int, storage=make_storage())
    await asyncio.gather(*(way(counters, "chat", count_one) for _ in range(10)))
    assert await counters.get("chat") == 10
    await counters.aclose()


async def test_closed_sqlite_leaves_no_thread(way: Way, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        async with SessionManager(int, storage=f"sqlite:///{tmp_path / 'bot.db'}") as counters:
            await way(counters, "chat", count_one)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


async def test_many_distinct_chats_leave_no_state_behind(way: Way) -> None:
    storage = MemoryStorage()
    counters = SessionManager(int, storage=storage)
    for chat in range(30_000):
        await way(counters, chat, look)
        await storage.commit_many([])
    coordinator = coordinator_of(storage)
    assert (len(coordinator.queue), len(coordinator.queue._queues), len(coordinator.leases)) == (0, 0, 0)


async def test_many_distinct_chats_in_flight_leave_no_state_behind(sqlite: Any) -> None:
    counters = SessionManager(int, storage=sqlite)
    for start in range(0, 2_000, 500):
        await asyncio.gather(*(by_open(counters, chat, count_one) for chat in range(start, start + 500)))
    await assert_nothing_is_held(sqlite)
    held = [getattr(coordinator_of(sqlite), slot, None) for slot in coordinator_of(sqlite).__slots__]
    assert not [thing for thing in held if isinstance(thing, dict | list) and len(thing) > 10]


async def test_a_lease_that_is_dropped_does_not_stop_the_others_from_being_renewed() -> None:
    renewed: list[str] = []

    class Storage(MemoryStorage):
        async def renew_many(self, leases: Any, seconds: float) -> Any:
            renewed.extend(lease.key for lease in leases)
            return await super().renew_many(leases, seconds)

    async with Storage(clock=lambda: 0.0) as storage:
        leases = LeaseRenewer(storage)
        locked: list[Lease] = []
        for key in ("a", "b"):
            (found,) = await storage.lock_many([LockRequest(key, key, 10)])
            assert found is not None
            locked.append(found.lease)
            leases.add(found.lease, 3600.0, Asked.now())
        (clock,) = leases._clocks.values()
        clock._tick()
        clock._tick()
        leases.drop(locked[0])
        assert clock._renewing is not None
        await clock._renewing
        leases.stop()
        assert renewed == ["b"]


BEGINNING = """
import asyncio, sys
from chatsession import SessionManager
sessions = SessionManager(int, storage=sys.argv[1])
async def forever(key):
    async with sessions.open(key) as s:
        s.data += 1
        await asyncio.Event().wait()
"""
ENDINGS = {
    "with a session open": """
async def main():
    task = asyncio.create_task(forever("chat"))
    await sessions.get("x")
    await asyncio.sleep(0)
""",
    "with many sessions open and more waiting": """
async def main():
    tasks = [asyncio.create_task(forever(f"{n % 5}")) for n in range(20)]
    await sessions.get("x")
    await sessions.get("x")
""",
    "in the middle of commits": """
async def main():
    tasks = [asyncio.create_task(sessions.update(f"{n}", lambda count: count + 1)) for n in range(50)]
    await sessions.get("x")
    await asyncio.sleep(0)
""",
    "while it opens": """
async def main():
    task = asyncio.create_task(sessions.update("chat", lambda count: count + 1))
    await asyncio.sleep(0)
""",
    "by an exception": """
async def main():
    try:
        async with sessions.open("chat") as s:
            s.data += 1
            sys.exit(0)
    finally:
        pass
""",
}
PATIENT = """
async def patiently():
    asyncio.get_running_loop().slow_callback_duration = 60  # a machine that is busy says nothing about the program
    await main()
asyncio.run(patiently())
"""


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("url", ["memory:", "sqlite:///bot.db"])
def test_asyncio_run_ends_cleanly(ending: str, url: str, tmp_path: Path) -> None:
    program = f"{BEGINNING}{ENDINGS[ending]}\n{PATIENT}"
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, url],
        cwd=tmp_path,
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_loop_that_ends_while_calls_wait_for_each_other_logs_nothing(clean_log: pytest.LogCaptureFixture) -> None:
    async def call(items: list[str]) -> list[None]:
        await asyncio.Event().wait()
        return [None] * len(items)

    async def end_early() -> None:
        batches: Batcher[str, None] = Batcher(call, size=1, in_flight=1)
        for key in "abc":
            batches.add(key, key)
        await asyncio.sleep(0)

    asyncio.run(end_early())
    gc.collect()
    assert not clean_log.records


async def test_all_ways_end_with_the_manager(make_storage: Callable[[], Storage]) -> None:
    async with SessionManager(int, storage=make_storage()) as counters:
        for way in WAYS.values():
            await way(counters, "chat", count_one)
    assert not counters.storage.is_open

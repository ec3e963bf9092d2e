"""Where a manager may be used: one event loop after another, a forked child, and never two loops at once (rule 15c)."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chatsession import SessionClosedError, SessionError, SessionManager, Storage, open_storage
from in_a_child import in_a_child

Make = Callable[[], Storage]


@pytest.fixture(params=["memory", "sqlite", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    urls = {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/bot.db", "file": f"file://{tmp_path}/bot"}
    return lambda: open_storage(urls[request.param])


def add_one(count: int) -> int:
    return count + 1


def test_15c_one_loop_after_another(make: Make) -> None:
    counters = SessionManager(int, storage=make())
    for _ in range(3):
        asyncio.run(asyncio.wait_for(counters.update(7, add_one), 60))
    assert asyncio.run(counters.get(7)) == 3
    asyncio.run(counters.aclose())


def test_15c_loops_that_are_closed_with_tasks_left_log_nothing(make: Make, clean_log: pytest.LogCaptureFixture) -> None:
    """As `asyncio.run` does not, but tests and scripts that close loops by themselves do."""
    counters = SessionManager(int, storage=make())
    for _ in range(2):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(counters.update(7, add_one))
        loop.close()
    assert asyncio.run(counters.get(7)) == 2
    del loop
    gc.collect()
    assert not clean_log.records


def test_15c_a_loop_that_ends_in_the_middle_of_an_update(make: Make) -> None:
    counters = SessionManager(int, storage=make(), lock_lease=0.5)

    async def stop_inside() -> None:
        loop = asyncio.get_running_loop()
        async with counters.open(7) as s:
            s.data = 5
            loop.stop()
            await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    task = loop.create_task(stop_inside())
    loop.run_forever()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is abandoned on purpose
    loop.close()
    assert asyncio.run(asyncio.wait_for(counters.update(7, add_one), 60)) == 1


def test_15c_two_loops_at_once_are_an_error(make: Make) -> None:
    counters = SessionManager(int, storage=make())
    opened, done = threading.Event(), threading.Event()

    async def bot() -> None:
        await counters.update(7, add_one)
        opened.set()
        await asyncio.to_thread(done.wait)
        assert await counters.update(7, add_one) == 2
        await counters.aclose()

    thread = threading.Thread(target=asyncio.run, args=(bot(),))
    thread.start()
    assert opened.wait(60)
    with pytest.raises(SessionError, match="another event loop"):
        asyncio.run(counters.get(7))
    done.set()
    thread.join(60)
    assert not thread.is_alive()


def test_15c_a_forked_child_opens_its_storage_anew(make: Make) -> None:
    counters = SessionManager(int, storage=make())

    async def use() -> None:
        assert await counters.update(7, add_one) == 1
        said = await asyncio.to_thread(in_a_child, lambda: asyncio.run(counters.update(7, add_one)))
        assert said == "2"
        in_common = counters.storage.shared
        assert await counters.update(7, add_one) == (3 if in_common else 2)
        await counters.aclose()

    asyncio.run(use())


def test_15c_a_child_forked_inside_a_block_may_not_use_its_session(make: Make) -> None:
    counters = SessionManager(int, storage=make())

    async def use() -> None:
        async with counters.open(7) as s:
            s.data = 5
            said = await asyncio.to_thread(in_a_child, lambda: asyncio.run(s.save()))
            assert said.startswith(SessionClosedError.__name__)
        assert await counters.get(7) == 5
        await counters.aclose()

    asyncio.run(use())


def test_15c_it_is_closed_with_the_last_user() -> None:
    counters = SessionManager(int, storage="memory:")

    async def use() -> None:
        first, second = object(), object()
        await counters.runtime.start(first)
        await counters.runtime.start(second)
        await counters.runtime.release(first, 10)
        assert await counters.update(7, add_one) == 1
        await counters.runtime.release(second, 10)
        with pytest.raises(SessionClosedError):
            await counters.update(7, add_one)

    asyncio.run(use())

"""Threads wait for each other, and interrupts leave nothing locked."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chatsession import SessionError, SessionEvent, SessionLockTimeoutError
from chatsession.sync import SessionManager
from chatsession.sync.loop_thread import LoopThread

PATIENCE = 60


@pytest.fixture
def counters(near: str) -> Iterator[SessionManager[int]]:
    with SessionManager(int, storage=near) as counters:
        yield counters


def start(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def join(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread waits for ever"


def add_one(count: int) -> int:
    return count + 1


def wait_for_waiters(counters: SessionManager[int], key: str, count: int = 1) -> None:
    """Return when so many wait for a key in this process."""

    async def waiting() -> None:
        queues = counters.asynchronous.runtime.coordinator.queue._queues
        while len(queues.get(key, ())) < count:  # noqa: ASYNC110 - a queue has no event
            await asyncio.sleep(0)

    counters.join().call(waiting)


@contextmanager
def held(counters: SessionManager[int], key: str) -> Generator[None]:
    """Another thread holds the key during the block, and then counts it up."""
    is_held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with counters.open(key) as s:
            is_held.set()
            assert let_go.wait(PATIENCE)
            s.data += 1

    thread = start(hold)
    assert is_held.wait(PATIENCE)
    try:
        yield
    finally:
        let_go.set()
        join(thread)


def test_threads_take_a_key_in_the_order_in_which_they_came(near: str) -> None:
    order: list[int] = []

    def note(number: int) -> None:
        with notes.open("a") as s:
            s.data.append(number)
            order.append(number)

    with SessionManager(list[int], storage=near) as notes:
        threads: list[threading.Thread] = []
        with notes.open("a"):
            for number in range(8):
                threads.append(start(lambda number=number: note(number)))
                wait_for_waiters(notes, "a", number + 1)  # type: ignore[arg-type]
        join(*threads)
        assert order == notes.get("a") == list(range(8))


def test_15_threads_that_would_wait_for_each_other_get_an_error(counters: SessionManager[int]) -> None:
    both = threading.Barrier(2)
    errors: list[SessionError] = []

    def open_both(first: str, second: str) -> None:
        with counters.open(first) as s:
            both.wait(PATIENCE)
            try:
                counters.update(second, add_one)
            except SessionError as error:
                errors.append(error)
            s.data += 1

    threads = [start(lambda: open_both("a", "b")), start(lambda: open_both("b", "a"))]
    join(*threads)
    assert len(errors) == 1
    assert "both would wait for ever" in str(errors[0])
    assert sorted(count for _, count in counters.entries()) == [1, 2]


def test_lock_timeout_ends_the_wait_for_another_thread(near: str) -> None:
    counters = SessionManager(int, storage=near, lock_timeout=0.05)
    with counters, held(counters, "a"), pytest.raises(SessionLockTimeoutError):
        counters.update("a", add_one)


def test_a_session_may_be_used_and_ended_in_another_thread(counters: SessionManager[int]) -> None:
    s = counters.open("a").__enter__()

    def use_and_end() -> None:
        s.data += 1
        s.__exit__(None, None, None)

    join(start(use_and_end))
    assert counters.update("a", add_one) == 2


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_in_the_block_aborts_it(counters: SessionManager[int], interrupt: type[BaseException]) -> None:
    with pytest.raises(interrupt), counters.open("a") as s:
        s.data = 5
        raise interrupt
    with pytest.raises(interrupt), counters.open_many(["a", "b"]) as (a, _):
        a.data = 5
        raise interrupt
    assert counters.update("a", add_one) == 1


@pytest.fixture
def interrupt_after() -> Iterator[Callable[[float], object]]:
    """A function that has a `KeyboardInterrupt` raised in this thread after so many seconds; 0: not any more."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # Hypothesis measures each collection, in a callback that would swallow the interrupt and warn
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.enable()
    signal.signal(signal.SIGALRM, before)


def test_an_interrupt_ends_the_wait_for_a_key(
    counters: SessionManager[int], interrupt_after: Callable[[float], object]
) -> None:
    for wait in (
        lambda: counters.update("a", add_one),
        lambda: counters.open_many(["0", "a", "b"]).__enter__(),
    ):
        with held(counters, "a"), pytest.raises(KeyboardInterrupt):
            interrupt_after(0.05)
            wait()
    assert [counters.update(key, add_one) for key in ("0", "a", "b")] == [1, 3, 1]


def test_interrupts_at_any_moment_leave_no_lock_and_no_half_update(
    near: str, interrupt_after: Callable[[float], object]
) -> None:
    """They come between any two steps of opening, using and ending a session."""
    done = interrupted = 0
    delay = 0.0002
    with SessionManager(list[int], storage=near) as notes:
        for number in range(1000):
            try:
                interrupt_after(delay * (0.5 + number % 100 / 100))
                with notes.open("a") as s:
                    s.data.append(number)
                    s.data.append(number)
                done += 1
                interrupt_after(0)
                delay /= 1.05
            except KeyboardInterrupt:
                interrupted += 1
                delay *= 1.05  # stays near the time of one update, however slow the machine is
            s = None
        stored = notes.update("a", lambda numbers: None)
        assert stored[::2] == stored[1::2]
        assert len(stored) // 2 >= done, "an update that was acknowledged is lost"
        assert notes.asynchronous.runtime.active == 0
    assert done > 100 < interrupted, "this proves nothing"


def test_a_signal_handler_may_use_sessions_while_its_thread_waits(counters: SessionManager[int]) -> None:
    seen: list[int] = []
    handled, waited = threading.Event(), threading.Event()

    def handle(*_: object) -> None:
        seen.append(counters.update("b", add_one))
        handled.set()

    def release() -> None:
        assert handled.wait(PATIENCE)
        waited.set()  # the handler itself must not: it may have interrupted the wait for this very event

    before = signal.signal(signal.SIGALRM, handle)
    try:
        with held(counters, "a"):
            releasing = start(release)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            assert waited.wait(PATIENCE)
            join(releasing)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert counters.update("b", add_one) == len(seen) + 1 == 2


def test_a_block_that_is_abandoned_gives_its_key_back(counters: SessionManager[int]) -> None:
    def read_forever() -> Iterator[int]:
        with counters.open("a") as s:
            s.data += 1
            while True:
                yield s.data

    generator = read_forever()
    assert next(generator) == 1
    del generator
    counters.open("a").__enter__()  # not even by `with`
    gc.collect()
    assert counters.update("a", add_one) == 1


def test_many_short_threads_leave_nothing_behind(counters: SessionManager[int]) -> None:
    for _ in range(50):
        join(start(lambda: counters.update("a", add_one)))
    gc.collect()

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    loop_thread = counters.join()
    assert isinstance(loop_thread, LoopThread)
    while (left := loop_thread.call(tasks)) > 2:  # the thread that has just ended may still be on its way
        gc.collect()
    assert left == 2, "the loop's own, and that of this thread"
    assert counters.get("a") == 50


def test_observers_and_initial_are_called_in_the_thread_that_uses_the_session(near: str) -> None:
    called: list[tuple[str, threading.Thread]] = []

    def observe(event: SessionEvent) -> None:
        called.append((event.outcome, threading.current_thread()))
        assert counters.get("other") is None, "an observer may use sessions"
        raise ValueError("a fault of the observer")

    def initial() -> int:
        called.append(("initial", threading.current_thread()))
        return 0

    here = threading.current_thread()
    with SessionManager(initial, storage=near, observe=observe) as counters:
        with counters.open("a") as s:
            s.data += 1
        with counters.open_many(["a", "b"]):
            pass
        with pytest.raises(ZeroDivisionError), counters.open("a"):
            raise ZeroDivisionError
    assert called == [(what, here) for what in ("initial", "written", "unchanged", "unchanged", "failed")]


def test_it_is_refused_in_a_thread_that_runs_an_event_loop(counters: SessionManager[int]) -> None:
    async def use() -> None:
        for use in (
            lambda: counters.open("a").__enter__(),
            lambda: counters.open_many(["a"]).__enter__(),
            lambda: counters.get("a"),
            lambda: next(counters.keys()),
            counters.start,
            counters.close,
        ):
            with pytest.raises(SessionError, match=r"use chatsession\.SessionManager here"):
                use()
        assert await asyncio.to_thread(counters.update, "a", add_one) == 1

    asyncio.run(use())
    assert counters.update("a", add_one) == 2


def test_it_is_refused_in_functions_that_the_library_calls(near: str) -> None:
    storage = None
    with SessionManager(dict[str, int], storage=near) as before:
        before.put("a", {"count": 1})
        storage = before.storage

        def migrate(data: Any) -> Any:
            return {"count": after.get("b")}

        after = SessionManager(dict[str, int], storage=storage, migrations={1: migrate})
        with after, pytest.raises(SessionError, match="migration") as raised:
            after.get("a")
        assert isinstance(raised.value.__cause__ or raised.value.__context__ or raised.value, SessionError)

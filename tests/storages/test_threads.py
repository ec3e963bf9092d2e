"""Many threads at once, also without a global interpreter lock: what they share, and what they must not."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chatsession import MemoryStorage, SessionManager
from chatsession.storages import Action, Change, Committed
from chatsession.storages.file import FileStorage
from chatsession.storages.sqlite import SQLiteStorage, _worker
from chatsession.sync import SessionManager as SyncSessionManager

THREADS = 4
PATIENCE = 60


@pytest.fixture
def _switching() -> Iterator[None]:
    """Threads take turns as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(function: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """What a function returns in each of several threads that begin together."""
    start = threading.Barrier(threads)
    results: list[Future[Any]] = [Future() for _ in range(threads)]

    def run(number: int) -> None:
        start.wait(PATIENCE)
        try:
            results[number].set_result(function(number))
        except BaseException as error:
            results[number].set_exception(error)

    for number in range(threads):
        threading.Thread(target=run, args=(number,), daemon=True).start()
    return [result.result(PATIENCE) for result in results]


def add_one(count: int) -> int:
    return count + 1


class PlainAdapter:
    """The least that a storage of one's own has."""

    def read(self, key: str) -> int | None:
        return None

    def write(self, key: str, value: int) -> None: ...
    def delete(self, key: str) -> None: ...


@pytest.mark.usefixtures("_switching")
@pytest.mark.parametrize("make", [MemoryStorage, PlainAdapter])
def test_managers_made_at_once_share_one_queue(make: Callable[[], Any]) -> None:
    for _ in range(100):
        storage = make()
        managers = at_once(lambda _, storage=storage: SessionManager(int, storage=storage))
        assert len({id(manager.runtime.coordinator) for manager in managers}) == 1


@pytest.mark.parametrize("scheme", ["sqlite", "file"])
def test_loops_in_threads_lose_no_update_of_a_shared_key(tmp_path: Path, scheme: str) -> None:
    url = f"sqlite:///{tmp_path}/bot.db" if scheme == "sqlite" else f"file://{tmp_path}/sessions"

    async def count_up(own: int) -> None:
        async with SessionManager(int, storage=url) as counters:
            for _ in range(5):
                await asyncio.gather(
                    counters.update("shared", add_one), *(counters.update(f"{own}-{n}", add_one) for n in range(10))
                )

    at_once(lambda number: asyncio.run(count_up(number)))
    with SyncSessionManager(int, storage=url) as counters:
        assert counters.get("shared") == 5 * THREADS
        assert {count for key, count in counters.entries() if key != "shared"} == {5}


@pytest.mark.usefixtures("_switching")
def test_loops_in_threads_keep_their_own_memory() -> None:
    async def count_up() -> list[int]:
        async with SessionManager(int, storage=MemoryStorage()) as counters:
            await asyncio.gather(*(counters.update(n % 20, add_one) for n in range(200)))
            return [count async for _, count in counters.entries()]

    assert at_once(lambda _: asyncio.run(count_up())) == [[10] * 20] * THREADS


@pytest.mark.usefixtures("_switching")
@pytest.mark.parametrize("url", ["memory:", "sqlite:///{}/bot.db"])
def test_calls_of_many_threads_all_return(tmp_path: Path, url: str) -> None:
    """Each call wakes the loop's thread, or finds it awake: a call that does neither waits for ever."""

    def count_up(number: int) -> None:
        for _ in range(50):
            counters.update(number, add_one)
            counters.get(number)
            counters.update("shared", add_one)

    with SyncSessionManager(int, storage=url.format(tmp_path)) as counters:
        at_once(count_up, 8)
        assert counters.get("shared") == 400
        assert {counters.get(number) for number in range(8)} == {50}


async def test_commits_in_all_threads_of_a_folder_write_files_of_their_own(tmp_path: Path) -> None:
    async with FileStorage(tmp_path, fsync=False) as storage:
        for batch in range(5):
            keys = [f"{batch}{number:03}" for number in range(40)]
            outcomes = await asyncio.gather(
                *(storage.commit_many([Change(key, Action.PUT, key.encode(), ttl=60)]) for key in keys)
            )
            assert all(isinstance(outcome, Committed) for (outcome,) in outcomes), outcomes
            records = await storage.read_many(keys)
            assert [record.value for record in records] == [key.encode() for key in keys]  # type: ignore[union-attr]


@pytest.mark.usefixtures("_switching")
async def test_enumerations_at_once_each_find_all(tmp_path: Path) -> None:
    keys = sorted(f"{number:03}" for number in range(100))
    async with FileStorage(tmp_path, fsync=False) as storage:
        await storage.commit_many([Change(key, Action.PUT, b"1") for key in keys])

        async def enumerate_all() -> list[str]:
            found: list[str] = []
            cursor: str | None = ""
            while cursor is not None:
                part, cursor = await storage.scan_keys("", cursor, 7)
                found += part
            return sorted(found)

        assert await asyncio.gather(*(enumerate_all() for _ in range(16))) == [keys] * 16


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed on Linux only")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_a_file_is_not_opened_while_the_process_forks(tmp_path: Path) -> None:
    """The fork waits for the first storage, and the second one must not open a connection meanwhile."""
    in_use, go_on = threading.Event(), threading.Event()

    def clock() -> float:
        if blocking:
            in_use.set()
            assert go_on.wait(PATIENCE)
        return time.time()

    def forked() -> str:
        read, write = os.pipe()
        if os.fork() == 0:
            files = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
            os.write(write, " ".join(file for file in files if ".db" in file).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            return pipe.read()

    blocking = False
    first, second = SQLiteStorage(tmp_path / "first.db", clock=clock), SQLiteStorage(tmp_path / "second.db")
    async with first:
        blocking = True
        reading = asyncio.ensure_future(first.read_many(["424242"]))
        await asyncio.to_thread(in_use.wait, PATIENCE)
        forking = asyncio.ensure_future(asyncio.to_thread(forked))
        while not _worker._forking.locked():  # noqa: ASYNC110 - a fork has no event
            await asyncio.sleep(0)
        opening = asyncio.ensure_future(second.open())
        await asyncio.wait([opening], timeout=0.1)
        go_on.set()
        assert await forking == ""
        await asyncio.gather(reading, opening)
        await second.close()


def test_a_thread_that_is_ending_registers_nothing_for_its_successor(tmp_path: Path) -> None:
    """A storage is opened anew while the thread of a closed event loop still sweeps."""
    sweeping, go_on = threading.Event(), threading.Event()

    def clock() -> float:
        if threading.current_thread() is workers[0] and ending:
            sweeping.set()
            assert go_on.wait(PATIENCE)
        return time.time()

    async def open_anew() -> None:
        opening = asyncio.ensure_future(storage.open())
        await asyncio.sleep(0)
        go_on.set()
        await opening
        with closing(sqlite3.connect(tmp_path / "bot.db")) as connection:
            assert connection.execute("SELECT 1 FROM session_holders WHERE identity = ''").fetchall() == []
        await storage.close()

    async def open_first() -> None:
        before = set(threading.enumerate())
        await storage.open()
        workers[:] = set(threading.enumerate()) - before

    ending, workers = False, [threading.current_thread()]
    storage = SQLiteStorage(tmp_path / "bot.db", clock=clock, sweep_interval=0.01)
    asyncio.run(open_first())
    ending = True
    assert sweeping.wait(PATIENCE)
    storage.forget(inherited=False)
    asyncio.run(open_anew())

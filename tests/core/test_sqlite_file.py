"""What only SQLite does: the file, its damage and its limits, groups of commits, locks of dead processes."""

# ruff: noqa: ASYNC221, ASYNC240 - small blocks read best where they stand; processes are short

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from core_aids import by_open, count_one, put, rows, steps, value_of

from chatsession import SessionDecodeError, SessionManager, StorageError, StorageUnavailableError
from chatsession.coordination.coordinator import coordinator_of
from chatsession.storages import Action, Change, LockRequest
from chatsession.storages.sqlite import SQLiteStorage
from chatsession.testing.storages import MovableClock


def contents(path: Path, query: str = "SELECT key, value FROM sessions ORDER BY key") -> list[tuple[Any, ...]]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.db"


async def store(path: Path, count: int = 1) -> None:
    async with SessionManager(str, storage=SQLiteStorage(path)) as texts:
        for number in range(count):
            async with texts.open(number) as s:
                s.data = f"{number}" * 100


async def test_a_file_that_is_missing_is_made(path: Path) -> None:
    await store(path)
    assert contents(path) == [("0", f'"{"0" * 100}"')]


async def test_anybody_can_read_it_as_json(path: Path) -> None:
    async with SessionManager(dict[str, Any], storage=SQLiteStorage(path)) as sessions:
        async with sessions.open("chat\0x") as s:
            s.data = {"count": 3, "pizza": "🍕"}
        query = "SELECT key, json_extract(value, '$.count'), json_extract(value, '$.pizza') FROM sessions"
        assert contents(path, query) == [("chat\1\1x", 3, "🍕")]


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 program is not there")
async def test_the_sqlite3_program_reads_it(path: Path) -> None:
    await store(path)
    told = subprocess.run(["sqlite3", path, "SELECT key FROM sessions"], capture_output=True, text=True, check=True)
    assert told.stdout == "0\n"


async def test_the_schema_in_the_file_is_the_one_in_the_package(path: Path) -> None:
    await store(path)
    script = files("chatsession.storages.sqlite").joinpath("schema.sql").read_text()
    with sqlite3.connect(":memory:") as fresh:
        fresh.executescript(script)
        query = "SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
        assert contents(path, query) == fresh.execute(query).fetchall()
    fresh.close()


async def test_wal_and_synchronous_are_as_asked(path: Path) -> None:
    for synchronous, number in (("normal", 1), ("full", 2), ("extra", 3)):
        async with SQLiteStorage(path, synchronous=synchronous) as storage:  # type: ignore[arg-type]
            assert await rows(storage, "PRAGMA synchronous") == [(number,)]
            assert await rows(storage, "PRAGMA journal_mode") == [(b"wal",)]


async def test_a_file_of_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    await store(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE chatsession SET schema = 99")
    connection.close()
    before = contents(path, "SELECT * FROM sessions")
    with pytest.raises(StorageError, match=r"newer version .*schema 99"):
        await store(path)
    assert contents(path, "SELECT * FROM sessions") == before


@pytest.mark.parametrize(
    "table", ["sessions (id, data)", "session_locks (x)", "chatsession (x)", "session_waiters (key, waiter)"]
)
async def test_a_database_of_another_program_is_refused_and_left_alone(path: Path, table: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {table}")
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    before = path.read_bytes()
    counters = SessionManager(int, storage=SQLiteStorage(path))
    for _ in range(2):
        with pytest.raises(StorageError, match=r"bot\.db"):
            await by_open(counters, "chat", count_one)
    assert path.read_bytes() == before


async def test_a_database_of_another_program_may_be_shared_where_no_name_meets(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (x)")
        connection.execute("INSERT INTO orders VALUES (7)")
    connection.close()
    await store(path)
    assert contents(path, "SELECT x FROM orders") == [(7,)]


async def test_what_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"hello, I am a text\n" * 500)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="no SQLite database"):
        await store(path)
    assert path.read_bytes() == before


async def test_a_damaged_file_is_told_and_nothing_is_written(path: Path) -> None:
    await store(path, 200)
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 1024] = b"\xff" * 1024
    path.write_bytes(data)
    texts = SessionManager(str, storage=SQLiteStorage(path))
    with pytest.raises(StorageError, match="damaged"):
        for key in range(200):
            await texts.get(key)
    with pytest.raises(StorageError, match="damaged"):
        for key in range(200):
            async with texts.open(key) as s:
                s.data = "new"
    await texts.aclose()


async def test_a_file_in_a_folder_that_is_missing(tmp_path: Path) -> None:
    counters = SessionManager(int, storage=SQLiteStorage(tmp_path / "missing" / "bot.db"))
    results = await asyncio.wait_for(
        asyncio.gather(*(by_open(counters, n, count_one) for n in range(5)), return_exceptions=True), 10
    )
    assert all(isinstance(result, StorageError) and "folder" in str(result) for result in results)
    (tmp_path / "missing").mkdir()
    await by_open(counters, "chat", count_one)
    assert await counters.get("chat") == 1
    await counters.aclose()


async def test_a_folder_in_the_place_of_the_file(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StorageError, match="cannot be opened"):
        await store(path)


READ_ONLY = """
import asyncio, os, sys
from chatsession import SessionManager, StorageError
import chatsession.storages.sqlite
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
async def main():
    counters = SessionManager(int, storage=f"sqlite:///{sys.argv[1]}")
    try:
        await counters.update("chat", lambda count: count + 1)
    except StorageError as error:
        print(type(error).__name__, error)
asyncio.run(main())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can look into."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


async def test_a_read_only_file_is_told_and_keeps_what_it_has(open_folder: Path) -> None:
    path = open_folder / "bot.db"
    await store(path)
    path.chmod(0o444)
    open_folder.chmod(0o555)
    told = subprocess.run([sys.executable, "-c", READ_ONLY, path], capture_output=True, text=True, check=False)
    open_folder.chmod(0o755)
    assert told.stdout.startswith("StorageError"), told.stderr
    assert "rights" in told.stdout
    assert contents(path) == [("0", f'"{"0" * 100}"')]


FULL_DISK = """
import asyncio, resource, signal, sys
from chatsession import SessionManager, StorageError
async def main():
    texts = SessionManager(str, storage=f"sqlite:///{sys.argv[1]}")
    async with texts:
        async with texts.open("before") as s:
            s.data = "x"
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
        try:
            async with texts.open("big") as s:
                s.data = "y" * 1_000_000
        except StorageError as error:
            print(type(error).__name__, error)
        assert await texts.get("big") is None
        assert await texts.get("before") == "x"
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        async with texts.open("after") as s:
            s.data = "z"
asyncio.run(main())
"""


async def test_a_full_disk_is_told_and_nothing_stored_is_lost(path: Path) -> None:
    told = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("StorageError")
    assert "disk" in told.stdout
    assert contents(path) == [("after", '"z"'), ("before", '"x"')]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")
async def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a disk")
    try:
        async with SessionManager(str, storage=SQLiteStorage(disk / "bot.db")) as texts:
            async with texts.open("before") as s:
                s.data = "x"
            with pytest.raises(StorageError, match="disk"):
                async with texts.open("big") as s:
                    s.data = "y" * 1_000_000
            assert (await texts.get("before"), await texts.get("big")) == ("x", None)
            async with texts.open("after") as s:
                s.data = "z"
        assert contents(disk / "bot.db") == [("after", '"z"'), ("before", '"x"')]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("value", [b"SECRET", b'{"newer": true}', b"\xff\x00", b""])
async def test_values_that_others_put_into_the_file(sqlite: Any, value: bytes) -> None:
    await put(sqlite, "chat", value)
    with pytest.raises(SessionDecodeError):
        await SessionManager(int, storage=sqlite).get("chat")
    assert await value_of(sqlite, "chat") == value


async def test_one_bad_job_of_a_group_fails_alone(sqlite: Any) -> None:
    good = [asyncio.ensure_future(sqlite.commit_many([Change(f"{n}", Action.PUT, b"1")])) for n in range(3)]
    await asyncio.sleep(0)
    bad = sqlite._at_work.submit(
        lambda connection, _: connection.execute("INSERT INTO nowhere VALUES (1)"), writes=True
    )
    late = asyncio.ensure_future(sqlite.commit_many([Change("late", Action.PUT, b"1")]))
    with pytest.raises(StorageError, match="no such table"):
        await bad
    await asyncio.gather(*good, late)
    keys, _ = await sqlite.scan_keys("", None, 10)
    assert keys == ["0", "1", "2", "late"]


async def test_concurrent_commits_share_transactions(sqlite: Any) -> None:
    counters = SessionManager(int, storage=sqlite)
    calls: list[int] = []
    original = sqlite.commit_many

    async def commit_many(changes: Any) -> Any:
        calls.append(len(changes))
        return await original(changes)

    sqlite.commit_many = commit_many
    coordinator_of(sqlite)._commits._batches._call = commit_many
    await asyncio.gather(*(by_open(counters, n, count_one) for n in range(200)))
    assert sum(calls) >= 200
    assert len(calls) < 50


async def test_the_sweep_runs_by_itself(path: Path, clock: MovableClock) -> None:
    swept = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Swept(SQLiteStorage):
        def _tidy(self, connection: sqlite3.Connection, limit: int, now: float) -> int:
            count = super()._tidy(connection, limit, now)
            if count:
                loop.call_soon_threadsafe(swept.set)
            return count

    storage = Swept(path, clock=clock, sweep_interval=0.01)
    async with SessionManager(int, storage=storage, ttl=10) as counters:
        for n in range(20):
            await by_open(counters, n, count_one)
        clock.advance(11)
        await asyncio.wait_for(swept.wait(), 120)
        await storage.read_many([])
        assert contents(path) == []


async def test_a_sweep_that_fails_ends_nothing(path: Path) -> None:
    failed = threading.Event()
    broken = False

    def clock() -> float:
        if broken:
            failed.set()
            raise OSError("the clock cannot be read")
        return time.time()

    async with SQLiteStorage(path, clock=clock, sweep_interval=0.01) as storage:
        broken = True
        await asyncio.to_thread(failed.wait)
        broken = False
        assert await asyncio.wait_for(storage.read_many(["1"]), 60) == [None]


async def test_a_file_that_another_program_keeps_locked(path: Path) -> None:
    await store(path)
    async with SessionManager(str, storage=SQLiteStorage(path, retry_for=0.05)) as texts:
        await texts.get("0")
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailableError, match="retry_for"):
            async with texts.open("0") as s:
                s.data = "x"
        assert await texts.get("0") == "0" * 100
        connection.execute("ROLLBACK")
        connection.close()
        async with texts.open("0") as s:
            s.data = "x"


async def test_closed_it_says_so(path: Path) -> None:
    storage = SQLiteStorage(path)
    for use in (lambda: storage.read_many(["a"]), lambda: storage.scan("", None, 1), storage.sweep):
        with pytest.raises(StorageError, match="closed"):
            await use()
    await storage.close()


async def test_opened_by_several_at_once(path: Path) -> None:
    storage = SQLiteStorage(path)
    await asyncio.gather(*(storage.open() for _ in range(5)))
    await put(storage, "chat", b"1")
    await asyncio.gather(*(storage.close() for _ in range(3)))


async def test_opened_by_several_at_once_where_it_cannot_be_opened(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "missing" / "bot.db")

    async def use() -> None:
        await storage.open()
        await storage.read_many(["chat"])

    results = await asyncio.wait_for(asyncio.gather(*(use() for _ in range(5)), return_exceptions=True), 120)
    assert all(isinstance(result, StorageError) for result in results)


HOLDER = """
import asyncio, sys
from chatsession import SessionManager
async def main():
    counters = SessionManager(int, storage=f"sqlite:///{sys.argv[1]}", lock_lease=3600)
    async with counters.open("chat") as s:
        s.data = 100
        print("held", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells at once")
async def test_the_lock_of_a_process_that_was_killed_is_free_at_once(path: Path) -> None:
    await store(path)
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    async with SessionManager(int, storage=SQLiteStorage(path), lock_timeout=30) as counters:
        waiting = asyncio.create_task(by_open(counters, "chat", count_one))
        await steps(50)
        assert not waiting.done()
        holder.send_signal(signal.SIGKILL)
        await holder.wait()
        await waiting
        assert await counters.get("chat") == 1


async def test_the_lock_of_a_process_that_ends_well_is_given_back(path: Path) -> None:
    async with SQLiteStorage(path) as mine:
        async with SQLiteStorage(path):
            assert len(await rows(mine, "SELECT * FROM session_holders")) == 2
        assert len(await rows(mine, "SELECT * FROM session_holders")) == 1
        await store(path)
        assert await rows(mine, "SELECT * FROM session_locks") == []


async def test_versions_never_go_back(path: Path) -> None:
    seen = []
    for _ in range(3):
        async with SQLiteStorage(path) as storage:
            for _ in range(2):
                await storage.commit_many([Change("chat", Action.DELETE)])
                await put(storage, "chat", b"1")
                seen.append((await storage.read_many(["chat"]))[0].version)  # type: ignore[union-attr]
    assert seen == sorted(set(seen))


async def test_a_storage_whose_last_write_fails_is_closed_all_the_same(
    sqlite: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a full disk; the locks that it held run out by themselves."""
    refusal = "CREATE TRIGGER full BEFORE DELETE ON session_holders BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    await sqlite._at_work.submit(lambda connection, _: connection.execute(refusal), writes=True)
    await sqlite.close()
    assert not sqlite.is_open
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    async with SessionManager(int, storage=sqlite) as counters:
        assert await counters.update("chat", lambda count: count + 1) == 1


async def test_a_lock_is_waited_for_however_many_attempts_it_takes(sqlite: Any) -> None:
    for attempt in (0, 1_751, 10**6):
        await sqlite.wait_unlocked(LockRequest("chat", "waiter", 1.0), attempt)

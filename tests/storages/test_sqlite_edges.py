"""SQLite at its edges: second loops, forks, files that vanish, clocks that are off, files of other programs."""

# ruff: noqa: ASYNC240 - small blocks read best where they stand

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from chatsession import StorageError, StorageUnavailableError, open_storage
from chatsession.storages import Action, Change, Locked, LockRequest, Refused
from chatsession.storages.sqlite import SQLiteStorage, _overwriting
from chatsession.testing.conformance.single import put, read
from chatsession.testing.storages import MovableClock
from in_a_child import in_child

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which processes are there")

_OPENERS = 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.db"


def sql(path: Path, statement: str, *values: object) -> list[Any]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute(statement, values).fetchall()
    connection.close()
    return rows


async def lock(storage: SQLiteStorage, key: str = "chat", seconds: float = 3600.0) -> Any:
    return (await storage.lock_many([LockRequest(key, "waiter", seconds)]))[0]


async def wait_for_lock(storage: SQLiteStorage, key: str = "chat") -> Locked:
    for attempt in range(10_000):
        request = LockRequest(key, "waiter", 3600.0)
        (found,) = await storage.lock_many([request])
        if isinstance(found, Locked):
            return found
        await storage.wait_unlocked(request, attempt)
    raise AssertionError("the key was never free")


# --- event loops and processes


def test_a_storage_that_forgot_a_closed_loop_opens_anew(path: Path) -> None:
    storage = SQLiteStorage(path)

    async def first() -> None:
        await storage.open()
        await put(storage, "chat", b"1")
        assert isinstance(await lock(storage), Locked)

    async def second() -> bytes | None:
        storage.forget(inherited=False)
        assert not storage.is_open
        async with storage:
            await wait_for_lock(storage)  # what the first loop had locked is free
            return (await read(storage, "chat")).value  # type: ignore[union-attr]

    asyncio.run(first())
    assert asyncio.run(second()) == b"1"


async def test_a_forked_child_opens_the_file_anew(path: Path) -> None:
    async with SQLiteStorage(path) as storage:
        await put(storage, "ann", b"1")
        mine = await lock(storage, "ann")

        async def use() -> None:
            storage.forget(inherited=True)
            async with storage:
                assert await lock(storage, "ann") is None
                assert isinstance(await lock(storage, "ben"), Locked)
                await put(storage, "ben", b"2")

        in_child(lambda: asyncio.new_event_loop().run_until_complete(asyncio.wait_for(use(), 60)))
        assert (await read(storage, "ben")).value == b"2"  # type: ignore[union-attr]
        (committed,) = await storage.commit_many([Change("ann", Action.PUT, b"3", lease=mine.lease, unlock=True)])
        assert not isinstance(committed, Exception)
        assert (await read(storage, "ann")).value == b"3"  # type: ignore[union-attr]
        assert sql(path, "SELECT count(*) FROM session_holders") == [(1,)]


async def test_no_connection_is_carried_into_a_child(path: Path) -> None:
    """The child holds no file open that the parent's locks depend on, however often the parent forks."""
    async with SQLiteStorage(path) as storage:
        for number in range(5):
            await put(storage, "chat", b"%d" % number)

            def look() -> None:
                held = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
                assert not [name for name in held if "bot.db" in name], held

            in_child(look)
        assert (await read(storage, "chat")).value == b"4"  # type: ignore[union-attr]


async def test_a_child_that_does_not_forget_is_told(path: Path) -> None:
    async with SQLiteStorage(path) as storage:
        await put(storage, "chat", b"1")

        async def use() -> None:
            with pytest.raises(StorageError, match="forked"):
                await storage.read_many(["chat"])

        in_child(lambda: asyncio.new_event_loop().run_until_complete(use()))


# --- waiting


async def test_jobs_that_wait_together_wait_no_longer_than_one(path: Path) -> None:
    async with SQLiteStorage(path, retry_for=0.5) as storage:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        jobs = [storage.commit_many([Change(f"{number}", Action.PUT, b"1")]) for number in range(60)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert all(isinstance(result, StorageUnavailableError) for result in results)
        assert time.monotonic() - started < 15  # one after another, they took 30 s
        other.execute("ROLLBACK")
        other.close()
        await put(storage, "chat", b"1")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # which may have threads
def test_a_new_file_can_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """As by the workers of a server at its first start: SQLite gives up at once where two would wait for each other."""
    forking = multiprocessing.get_context("fork")
    together = forking.Barrier(_OPENERS)
    openers = [forking.Process(target=_open_new_files, args=(tmp_path, together)) for _ in range(_OPENERS)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
    assert [opener.exitcode for opener in openers] == [0] * _OPENERS


def _open_new_files(folder: Path, together: Barrier) -> None:
    async def open_and_close(number: int) -> None:
        storage = SQLiteStorage(folder / f"{number}.db")
        together.wait()
        await storage.open()
        await storage.close()

    try:
        for number in range(30):
            asyncio.run(open_and_close(number))
    except BaseException:
        together.abort()  # the others must not wait
        raise


async def test_a_file_that_is_busy_while_it_is_closed_keeps_no_holder(
    path: Path, clean_log: pytest.LogCaptureFixture
) -> None:
    storage = SQLiteStorage(path)
    await storage.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ending = asyncio.ensure_future(storage.close())
        await asyncio.wait([ending], timeout=0.3)
        other.execute("COMMIT")
        await ending
    assert not clean_log.records
    assert sql(path, "SELECT count(*) FROM session_holders") == [(0,)]


# --- the file under a running bot


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_was_removed_or_replaced_is_noticed(path: Path, suffix: str, replaced: bool) -> None:
    async with SQLiteStorage(path) as storage:
        await put(storage, "chat", b"1")
        file = path.with_name(path.name + suffix)
        copy = path.with_name("copy")
        shutil.copy(file, copy)
        file.unlink()
        if replaced:
            copy.rename(file)
        os.utime(path.parent, (1, 1))  # as if it had been long ago
        for call in (
            lambda: put(storage, "chat", b"2"),
            lambda: lock(storage),
            lambda: storage.read_many(["chat"]),
        ):
            with pytest.raises(StorageError, match="removed or replaced"):
                await call()


async def test_a_restored_backup_is_used_once_opened_anew(path: Path, tmp_path: Path) -> None:
    storage = SQLiteStorage(path)
    async with storage:
        await put(storage, "chat", b"1")
    shutil.copy(path, tmp_path / "backup.db")
    async with storage:
        await put(storage, "chat", b"2")
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        (tmp_path / "backup.db").rename(path)
        with pytest.raises(StorageError, match="removed or replaced"):
            await put(storage, "chat", b"3")
    async with storage:
        assert (await read(storage, "chat")).value == b"1"  # type: ignore[union-attr]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint is under way."""
    monkeypatch.setattr(_overwriting, "_STILL", 0.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("content", ["backup", "empty"])
async def test_a_file_that_was_overwritten_is_noticed(path: Path, tmp_path: Path, content: str) -> None:
    storage, backup = SQLiteStorage(path), tmp_path / "backup.db"
    async with storage:
        await put(storage, "chat", b"1")
    if content == "backup":
        shutil.copy(path, backup)
    else:
        backup.touch()
    async with storage:
        await put(storage, "chat", b"2")
        sql(path, "PRAGMA wal_checkpoint")
        await put(storage, "chat", b"3")
        shutil.copyfile(backup, path)
        os.utime(path, (1, 1))  # as if it had been long ago
        for call in (lambda: put(storage, "chat", b"4"), lambda: storage.read_many(["chat"])):
            with pytest.raises(StorageError, match="was overwritten"):
                await call()


@pytest.mark.usefixtures("impatient")
async def test_a_file_that_was_just_made_and_overwritten_is_noticed(path: Path, tmp_path: Path) -> None:
    async with SQLiteStorage(tmp_path / "backup.db") as storage:
        await put(storage, "chat", b"1")
    await asyncio.sleep(0.001)  # for the counter, which grows with the clock
    async with SQLiteStorage(path) as storage:
        shutil.copyfile(tmp_path / "backup.db", path)
        os.utime(path, (1, 1))  # as if it had been long ago
        with pytest.raises(StorageError, match="was overwritten"):
            await put(storage, "chat", b"2")


async def test_a_checkpoint_that_was_broken_off_is_not_taken_for_another_program(path: Path) -> None:
    """Such as on a full disk. SQLite repeats it."""
    async with SQLiteStorage(path) as storage:
        await put(storage, "chat", b"1")
        whole = path.read_bytes()
        os.truncate(path, 100)
        os.utime(path, (1, 1))
        await put(storage, "chat", b"2")
        path.write_bytes(whole)
        await put(storage, "chat", b"3")


async def test_a_backup_restored_by_sqlite_is_used_at_once(path: Path, tmp_path: Path) -> None:
    async with SQLiteStorage(path) as storage:
        await put(storage, "chat", b"1")
        bot, backup = sqlite3.connect(path), sqlite3.connect(tmp_path / "backup.db")
        bot.backup(backup)
        lost = await put(storage, "chat", b"2")
        old = await lock(storage)
        backup.backup(bot)
        for connection in (bot, backup):
            connection.close()
        sql(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        assert (await read(storage, "chat")).value == b"1"  # type: ignore[union-attr]
        assert await put(storage, "chat", b"3") != lost
        assert (await lock(storage)).lease.token != old.lease.token
        (late,) = await storage.commit_many([Change("chat", Action.PUT, b"4", expect=lost)])
        assert late is Refused.CONFLICT


async def test_the_program_may_change_its_folder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    storage = open_storage(f"sqlite:{path.name}")
    async with storage:
        await put(storage, "chat", b"1")
        monkeypatch.chdir(tmp_path / "other")
        await put(storage, "chat", b"2")
    async with storage:
        assert (await read(storage, "chat")).value == b"2"  # type: ignore[union-attr]


# --- processes that are gone


def world() -> tuple[str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot, os.readlink("/proc/self/ns/pid")


@LINUX
@pytest.mark.parametrize("which", ["other boot", "other container", "unknown"])
async def test_holders_that_are_gone_are_removed(path: Path, which: str) -> None:
    async with SQLiteStorage(path) as storage:
        await put(storage, "chat", b"1")
    boot, namespace = world()
    identity = {
        "other boot": f"0000/{namespace} 1 1 x",
        "other container": f"{boot}/pid:[1] 1 1 x",
        "unknown": "? x",
    }[which]
    sql(path, "INSERT INTO session_holders (identity) VALUES (?)", identity)
    async with SQLiteStorage(path) as storage:
        await lock(storage)
        assert storage.single_process
        (fact,) = [fact for fact in await storage.facts() if fact.name.startswith("other processes")]
        assert fact.value == "none"
    assert sql(path, "SELECT * FROM session_holders") == []


RESTARTING = """
import asyncio, os, sys
from chatsession.storages import LockRequest
from chatsession.storages.sqlite import SQLiteStorage

async def main():
    async with SQLiteStorage(sys.argv[1]) as storage:
        (locked,) = await storage.lock_many([LockRequest("chat", "waiter", 3600.0)])
        if len(sys.argv) == 2:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], "again"])
        await storage.sweep()
        print(locked is not None, storage.single_process)

asyncio.run(main())
"""


@LINUX
def test_a_program_that_replaces_itself_leaves_no_locks(path: Path, tmp_path: Path) -> None:
    script = tmp_path / "restarting.py"
    script.write_text(RESTARTING)
    done = subprocess.run([sys.executable, script, path], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("True True\n", "")


@LINUX
async def test_a_holder_of_another_container_keeps_its_leases(path: Path) -> None:
    clock = MovableClock()
    async with SQLiteStorage(path, clock=clock) as storage:
        boot, _ = world()
        sql(path, "INSERT INTO session_holders (id, identity) VALUES (99, ?)", f"{boot}/pid:[1] 1 1 x")
        sql(path, "INSERT INTO session_locks VALUES ('chat', 7, ?, 99, 30, NULL)", clock() + 30)
        assert await lock(storage) is None
        assert not storage.single_process
        clock.advance(31)
        assert isinstance(await lock(storage), Locked)
        await storage.sweep()
        assert storage.single_process


@LINUX
async def test_a_holder_of_another_container_that_is_there_stays(path: Path) -> None:
    clock = MovableClock()
    async with SQLiteStorage(path, clock=clock) as storage:
        boot, _ = world()
        sql(path, "INSERT INTO session_holders (identity, seen) VALUES (?, ?)", f"{boot}/pid:[1] 1 1 x", clock())
        for _ in range(3):
            await lock(storage)
            assert not storage.single_process
            clock.advance(60)


@LINUX
async def test_a_process_taken_for_gone_enters_itself_again(path: Path) -> None:
    clock = MovableClock()
    async with SQLiteStorage(path, clock=clock) as storage:
        sql(path, "DELETE FROM session_holders")
        clock.advance(60)
        await lock(storage)
        assert len(sql(path, "SELECT * FROM session_holders")) == 1


HIDEPID = """
mount -t proc -o hidepid=2 proc /proc || exit 99
exec {python} -c '
import os
from chatsession.storages.sqlite._holders import _started
os.setgid(65534); os.setuid(65534)
assert not os.path.exists("/proc/{pid}")
print(_started({pid}))
'
"""


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root can mount /proc")
def test_a_process_that_is_hidden_is_not_taken_for_dead() -> None:
    script = HIDEPID.format(python=sys.executable, pid=os.getpid())
    ran = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    if ran.returncode == 99 or "unshare" in ran.stderr:
        pytest.skip("this machine does not let us mount /proc")
    assert ran.stdout == "None\n", ran.stderr


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root can make a namespace")
def test_processes_are_not_looked_up_in_another_namespace() -> None:
    look = "from chatsession.storages.sqlite._holders import _can_tell; print(_can_tell())"
    ran = subprocess.run(
        ["unshare", "-p", "-f", sys.executable, "-c", look], capture_output=True, text=True, check=False
    )
    if "unshare" in ran.stderr:
        pytest.skip("this machine does not let us make a namespace")
    assert ran.stdout == "False\n", ran.stderr


async def test_a_lease_from_a_clock_that_ran_ahead_ends_in_time(path: Path) -> None:
    clock = MovableClock()
    async with SQLiteStorage(path, clock=clock) as storage:
        clock.advance(7200)
        assert isinstance(await lock(storage, seconds=30), Locked)
        sql(path, "INSERT INTO session_waiters (key, waiter, until) VALUES ('chat', 'gone', ?)", clock() + 2)
        clock.advance(-7200)
        assert await lock(storage) is None
        clock.advance(31)
        assert isinstance(await lock(storage), Locked)


async def test_a_file_of_version_0_1_gets_the_new_columns(path: Path) -> None:
    async with SQLiteStorage(path) as storage:
        await put(storage, "chat", b"1")
        fresh = sql(path, "PRAGMA table_info(session_locks)") + sql(path, "PRAGMA table_info(session_holders)")
    sql(path, "ALTER TABLE session_holders DROP COLUMN seen")
    sql(path, "ALTER TABLE session_locks DROP COLUMN seconds")
    sql(path, "ALTER TABLE session_locks DROP COLUMN waiter")
    async with SQLiteStorage(path) as storage:
        assert isinstance(await lock(storage), Locked)
        now = sql(path, "PRAGMA table_info(session_locks)") + sql(path, "PRAGMA table_info(session_holders)")
    assert now == fresh


# --- files of other programs, and files that can only be read


@pytest.mark.parametrize("tables", ["CREATE TABLE orders (x)", ""])
async def test_without_create_a_foreign_file_is_left_alone(path: Path, tables: str) -> None:
    if tables:
        sql(path, tables)
    else:
        path.touch()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="holds no sessions"):
        await SQLiteStorage(path, create=False).open()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["bot.db"]


async def test_without_create_a_missing_file_is_not_made(path: Path) -> None:
    for storage in (SQLiteStorage(path, create=False), open_storage(f"sqlite:///{path}?create=false")):
        with pytest.raises(StorageError, match="there is no file"):
            await storage.open()
    assert not path.exists()


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that every user can look into and nobody can write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


LOOK = """
import asyncio, os, sys
from chatsession import StorageError
from chatsession.storages.sqlite import SQLiteStorage
from chatsession.storages import Action, Change
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
async def main():
    async with SQLiteStorage(sys.argv[1], create=False) as storage:
        print((await storage.scan("", None, 10)).entries[0][1].value)
        try:
            await storage.commit_many([Change("chat", Action.PUT, b"2")])
        except StorageError as error:
            print("rights" in str(error))
asyncio.run(main())
"""


@pytest.mark.parametrize("create", [True, False])
async def test_a_path_that_the_system_refuses_is_a_storage_error(tmp_path: Path, create: bool) -> None:
    storage = SQLiteStorage(tmp_path / ("x" * 300), create=create)
    for _ in range(2):
        with pytest.raises(StorageError, match="File name too long"):
            await storage.open()


@pytest.mark.parametrize("create", [True, False])
async def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path, create: bool) -> None:
    with pytest.raises(StorageError, match="is a folder"):
        await open_storage(f"sqlite:///{tmp_path}", create=create).open()


@pytest.mark.parametrize("folder_mode", [0o555, 0o777])
async def test_without_create_a_read_only_copy_can_be_read(read_only: Path, folder_mode: int) -> None:
    path = read_only / "bot.db"
    async with SQLiteStorage(path) as storage:
        await put(storage, "chat", b"1")
    path.chmod(0o444)
    read_only.chmod(folder_mode)
    ran = subprocess.run([sys.executable, "-c", LOOK, path], capture_output=True, text=True, check=False)  # noqa: ASYNC221 - it is short
    assert ran.stdout == "b'1'\nTrue\n", ran.stderr


async def test_the_random_numbers_of_the_program_stay_as_seeded(path: Path) -> None:
    random.seed(7)
    before = random.getstate()
    async with SQLiteStorage(path) as storage:
        await put(storage, "chat", b"1")
    assert random.getstate() == before

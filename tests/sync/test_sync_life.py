"""The library's thread begins with the first use and ends with the last manager, the process, or a fork."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import chatsession
from chatsession import SessionClosedError, SessionError, StorageError
from chatsession.sync import SessionManager
from in_a_child import in_a_child


def add_one(count: int) -> int:
    return count + 1


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("chatsession")]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def run(program: str, *arguments: str) -> str:
    """What a program says, which must end well."""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", program, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# Its beginning and its end.


def test_importing_it_and_making_a_manager_start_nothing() -> None:
    said = run(
        "import sys, threading, chatsession\n"
        "before = set(sys.modules)\n"
        "from chatsession.sync import SessionManager\n"
        "SessionManager(int, storage='memory:')\n"
        "print(threading.active_count(), sorted(set(sys.modules) - before))"
    )
    names = {"", ".block", "._calls", "._manager", "._session", ".loop_thread"}
    assert said.strip() == f"1 {sorted(f'chatsession.sync{name}' for name in names)}"


def test_nothing_is_left_after_close(url: str) -> None:
    SessionManager(int, storage=url).close()  # also without any use
    with SessionManager(int, storage=url, prefix="warm-up:") as sessions:
        sessions.get(7)
    gc.collect()
    files = open_files()
    for _ in range(3):
        with SessionManager(int, storage=url, prefix="closed:") as sessions:
            sessions.update(7, add_one)
    assert "chatsession" not in threads()
    gc.collect()
    assert open_files() <= files


def test_managers_share_a_thread_until_the_last_is_closed(near: str) -> None:
    one, other = SessionManager(int, storage=near), SessionManager(int, storage="memory:")
    one.start()
    assert other.update(7, add_one) == 1, "it connects when it is first used"
    assert threads().count("chatsession") == 1
    one.close()
    assert other.update(7, add_one) == 2
    other.close()
    other.close()
    assert threads().count("chatsession") == 0


def test_a_closed_manager_refuses_and_may_be_started_again(near: str) -> None:
    sessions = SessionManager(int, storage=near)
    with sessions:
        sessions.update(7, add_one)
        keys = sessions.keys()
        next(keys)
        s = sessions.open(7)
    for use in (
        lambda: sessions.get(7),
        lambda: sessions.update(7, add_one),
        lambda: next(sessions.keys()),
        s.__enter__,
        sessions.open_many([7]).__enter__,
    ):
        with pytest.raises(SessionClosedError, match="manager is closed"):
            use()
    sessions.start()
    assert sessions.update(7, add_one) == 2
    sessions.close()


def test_close_waits_for_open_sessions(near: str) -> None:
    sessions = SessionManager(int, storage=near)
    opened, closing = threading.Event(), threading.Event()

    def use() -> None:
        with sessions.open(7) as s:
            opened.set()
            assert closing.wait(60)
            s.data += 1

    thread = threading.Thread(target=use)
    thread.start()
    assert opened.wait(60)
    storage = sessions.storage

    def close() -> None:
        sessions.close()
        assert not storage.is_open

    closer = threading.Thread(target=close)
    closer.start()
    while not sessions._closed:
        time.sleep(0)
    closing.set()
    thread.join(60)
    closer.join(60)
    if near != "memory:":
        with SessionManager(int, storage=near) as again:
            assert again.get(7) == 1


def test_a_session_that_outlasts_close_cannot_commit(url: str) -> None:
    sessions = SessionManager(int, storage=url, prefix="outlasts:")
    with pytest.raises(SessionClosedError, match="its manager was closed"), sessions.open(7) as s:
        s.data += 1
        sessions.close(timeout=0)
        assert threads().count("chatsession") == 0
    with SessionManager(int, storage=url, prefix="outlasts:", lock_timeout=15) as again:
        assert again.update(7, add_one) == 1, "its lock is not given back"


def test_a_storage_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "bot.db").write_bytes(b"this is no database, and never was one" * 100)
    sessions = SessionManager(int, storage=f"sqlite:///{tmp_path}/bot.db")
    with pytest.raises(StorageError), sessions:
        pass
    assert "chatsession" not in threads()
    with pytest.raises(StorageError):
        sessions.get(7)
    sessions.close()


# The end of the process.

BEGIN = """
import atexit, os, sys, threading, time
import chatsession.sync
sessions = chatsession.sync.SessionManager(int, storage=sys.argv[1])
def add_one(count):
    return count + 1
"""


def test_a_process_that_closes_nothing_ends_well(url: str) -> None:
    assert run(f"{BEGIN}\nsessions.update('end', add_one)", url) == ""


def test_an_atexit_handler_may_use_sessions_until_they_are_closed(sqlite: str) -> None:
    said = run(
        f"""
import atexit

def late():
    try:
        sessions.update(7, add_one)
    except Exception as error:
        print(type(error).__name__, error)

atexit.register(late)  # before the library's own, and so called after it
{BEGIN}
sessions.update(7, add_one)
atexit.register(lambda: print(sessions.update(7, add_one)))
""",
        sqlite,
    )
    assert said.splitlines()[0] == "2"
    assert said.splitlines()[1].startswith("SessionClosedError")
    assert "the process is ending" in said
    assert len(said.splitlines()) == 2


def test_a_del_at_the_end_of_the_process_does_not_hang(sqlite: str) -> None:
    said = run(
        f"""{BEGIN}
class Last:
    def __del__(self):
        try:
            sessions.update(7, add_one)
        except BaseException as error:
            os.write(1, type(error).__name__.encode())

last = Last()
last.itself = last
sessions.update(7, add_one)
""",
        sqlite,
    )
    assert said == "SessionClosedError"


def test_a_del_that_runs_in_the_librarys_thread_does_not_hang(near: str) -> None:
    class Last:
        def __del__(self) -> None:
            try:
                sessions.get(8)
            except Exception as error:
                errors.append(error)

    errors: list[Exception] = []
    with SessionManager(int, storage=near) as sessions:

        async def delete() -> None:
            Last()

        sessions.join().call(delete)
        assert "in a loop of the library" in str(errors)
        assert sessions.update(7, add_one) == 1


@pytest.mark.parametrize("how", ["open", "wait"])
def test_a_thread_that_the_exit_kills_leaves_no_lock(url: str, how: str) -> None:
    """Neither the one that is inside its block nor one that waits for the key."""
    run(
        f"""{BEGIN}
opened = threading.Event()
def hold():
    with sessions.open('killed') as s:
        s.data = 5
        opened.set()
        time.sleep(1000)

threading.Thread(target=hold, daemon=True).start()
assert opened.wait(60)
if {how == "wait"}:
    waiting = threading.Thread(target=lambda: sessions.update('killed', add_one), daemon=True)
    waiting.start()
""",
        url,
    )
    with SessionManager(int, storage=url, lock_timeout=15) as sessions:
        assert sessions.update("killed", add_one) == 1
        sessions.delete("killed")


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "sys.exit(1)", "os.kill(os.getpid(), 2)"])
def test_a_process_that_is_interrupted_in_a_block_leaves_no_lock(sqlite: str, end: str) -> None:
    program = f"{BEGIN}\nwith sessions.open(7) as s:\n    s.data = 5\n    {end}"
    done = subprocess.run([sys.executable, "-c", program, sqlite], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    with SessionManager(int, storage=sqlite, lock_timeout=15) as sessions:
        assert sessions.update(7, add_one) == 1


# Forked children.


def test_15c_a_forked_child_begins_anew(url: str) -> None:
    """As after gunicorn's `--preload`: the program has used its sessions before it forks its workers."""
    with SessionManager(int, storage=url, prefix="forked:") as sessions:
        first = sessions.update(7, add_one)

        def use() -> int:
            count = [sessions.update(7, add_one) for _ in range(3)][-1]
            sessions.close()
            return count

        assert in_a_child(use) == in_a_child(lambda: use() - 3) == str(first + 3)
        assert sessions.update(7, add_one) == first + 7
        assert in_a_child(lambda: in_a_child(lambda: sessions.update(7, add_one))) == repr(str(first + 8))
        assert sessions.update(7, add_one) == first + 9


def test_15c_a_child_forked_inside_a_block_is_refused_and_the_parent_goes_on(url: str) -> None:
    with SessionManager(int, storage=url, prefix="inside:") as sessions:
        sessions.delete(7)
        with sessions.open(7) as s, sessions.open_many([8, 9]) as (eight, _):
            s.data = 5

            def assign() -> None:
                s.data = 6

            for use in (lambda: s.data, assign, s.save, s.release):
                assert in_a_child(use).startswith("SessionClosedError: session '7'")
            assert in_a_child(lambda: eight.data).startswith("SessionClosedError")
            assert "forked" in in_a_child(lambda: s.__exit__(None, None, None))
            assert in_a_child(lambda: s.__exit__(ValueError, ValueError(), None)) == "None"
            assert in_a_child(lambda: sessions.update("other", lambda _: 1)) == "1"
            s.data += 1
        assert sessions.get(7) == 6


def test_15c_a_child_forked_while_others_use_sessions_begins_anew(sqlite: str) -> None:
    """Whatever the other threads were doing, in the child they are gone."""
    stop = threading.Event()
    with SessionManager(int, storage=sqlite) as sessions:

        def use(key: int) -> None:
            while not stop.is_set():
                sessions.update(key, add_one)

        users = [threading.Thread(target=use, args=(key,)) for key in range(4)]
        for user in users:
            user.start()
        try:
            assert [in_a_child(lambda: sessions.update("child", add_one)) for _ in range(10)] == [
                str(count) for count in range(1, 11)
            ]
        finally:
            stop.set()
            for user in users:
                user.join()


def count_up(sessions: SessionManager[int], updates: int) -> None:
    for _ in range(updates):
        sessions.update(7, add_one)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_15c_processes_of_multiprocessing_use_sessions(sqlite: str, method: str) -> None:
    context = multiprocessing.get_context(method)
    sessions = SessionManager(int, storage=sqlite)
    sessions.update(7, add_one)
    arguments = (sessions, 10) if method == "fork" else (sqlite, 10)
    children = [context.Process(target=count_up if method == "fork" else count_up_in, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert sessions.get(7) == 21
    sessions.close()


def count_up_in(url: str, updates: int) -> None:
    with SessionManager(int, storage=url) as sessions:
        count_up(sessions, updates)


def test_a_storage_that_an_event_loop_uses_is_refused(near: str) -> None:
    """A storage object belongs to one loop; by its URL, each opens its own."""
    storage = chatsession.open_storage(near)

    async def bot() -> None:
        async with chatsession.SessionManager(int, storage=storage) as asynchronous:
            with pytest.raises(SessionError, match="another event loop"):
                await asyncio.to_thread(SessionManager(int, storage=storage).start)
            assert await asynchronous.update(7, add_one) == 1

    asyncio.run(bot())

"""Files that several processes share: killed, stopped, out of space."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages import Action, Change, Committed, Refused
from chatsession.storages.file import FileStorage
from chatsession.storages.file._locks import shard_of
from chatsession.testing.conformance.single import (
    delete,
    is_busy,
    lock,
    put,
    request,
    try_lock,
    unlock,
    value_of,
    wait_for_lock,
)
from chatsession.testing.storages import MovableClock

BEGIN = """
import asyncio, sys
from chatsession.storages import *
from chatsession.storages.file import FileStorage

async def main():
    async with FileStorage(sys.argv[1]) as storage:
        print("open", flush=True)
{body}

asyncio.run(main())
"""

WRITE_FOR_EVER = """
        for number in range(10**9):
            value = b'{"filler": "%s", "end": 1}' % (b"x" * (number % 3000))
            changes = [Change(str(key), Action.PUT, value, ttl=1000.0 if number % 2 else None) for key in range(20)]
            for outcome in await storage.commit_many(changes):
                assert isinstance(outcome, Committed), outcome
            print(number, flush=True)
"""

QUEUE_UP = """
        request_ = LockRequest("424242", "theirs", 1000.0)
        assert await storage.lock_many([request_]) == [None]
        print("waiting", flush=True)
        while True:
            await storage.wait_unlocked(request_, 0)
            if (await storage.lock_many([request_]))[0]:
                break
        print("locked", flush=True)
        await asyncio.sleep(1000)
"""


@asynccontextmanager
async def child(body: str, folder: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Another process with the storage open; killed at the end, if not before."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BEGIN.format(body=body), str(folder), stdout=asyncio.subprocess.PIPE
    )
    try:
        await said(process, "open")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: asyncio.subprocess.Process, words: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert (await process.stdout.readline()).decode().strip() == words


def values(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.glob("*/*.json")]


async def test_a_killed_writer_leaves_whole_files_and_no_drafts(tmp_path: Path) -> None:
    for writes in (3, 5):
        async with child(WRITE_FOR_EVER, tmp_path) as process:
            for number in range(writes):
                await said(process, str(number))
            process.kill()
            await process.wait()
        assert all(json.loads(value)["end"] == 1 for value in values(tmp_path))
    async with FileStorage(tmp_path) as storage:
        assert os.listdir(tmp_path / ".chatsession/drafts") == []
        assert os.listdir(tmp_path / ".chatsession/wakes") == [storage._folder.pipe.name if storage._folder else ""]
        found = await storage.read_many([str(key) for key in range(20)])
        assert len([record for record in found if record is not None]) == 20


async def test_opening_keeps_the_drafts_of_running_processes(tmp_path: Path) -> None:
    async with child(WRITE_FOR_EVER, tmp_path) as process:
        for number in range(8):
            async with FileStorage(tmp_path):
                await said(process, str(number))


async def test_a_waiter_in_another_process_is_woken(tmp_path: Path) -> None:
    async with FileStorage(tmp_path) as storage:
        mine = await lock(storage, "424242")
        async with child(QUEUE_UP, tmp_path) as process:
            await said(process, "waiting")
            await storage.commit_many([Change("424242", Action.PUT, b"1", lease=mine.lease, unlock=True)])
            await said(process, "locked")
            assert await is_busy(storage, "424242")


async def test_a_killed_waiter_is_skipped(tmp_path: Path) -> None:
    """Without any time going by: that nobody reads its pipe any more tells that it is gone."""
    clock = MovableClock(time.time())
    async with FileStorage(tmp_path, clock=clock) as storage:
        mine = await lock(storage, "424242")
        async with child(QUEUE_UP, tmp_path) as process:
            await said(process, "waiting")
            next_request_ = request("424242")
            assert await try_lock(storage, next_request_) is None
            process.kill()
            await process.wait()
            await unlock(storage, mine.lease)
            assert await try_lock(storage, next_request_) is not None


async def test_a_stopped_waiter_blocks_the_others_only_for_a_while(tmp_path: Path) -> None:
    async with FileStorage(tmp_path) as storage:
        mine = await lock(storage, "424242")
        async with child(QUEUE_UP, tmp_path) as process:
            await said(process, "waiting")
            process.send_signal(signal.SIGSTOP)
            next_request_ = request("424242")
            assert await try_lock(storage, next_request_) is None
            await unlock(storage, mine.lease)
            await wait_for_lock(storage, next_request_)


async def test_a_killed_holder_blocks_its_key_no_longer_than_its_lease(tmp_path: Path) -> None:
    body = QUEUE_UP.replace("1000.0", "0.5")
    async with FileStorage(tmp_path) as storage, child(body, tmp_path) as process:
        mine = await lock(storage, "other")
        process.kill()
        await process.wait()
        await wait_for_lock(storage, request("424242"))
        await unlock(storage, mine.lease)


async def test_a_stopped_process_with_a_lock_file_blocks_its_keys_only(tmp_path: Path) -> None:
    """Its keys say so after a bounded wait, the others are not concerned, and nothing is lost."""
    async with FileStorage(tmp_path, retry_for=0.05) as storage:
        await put(storage, "424242", b"1")
        number = shard_of("424242")
        other_key = next(key for key in map(str, range(99)) if shard_of(key) != number)
        with (tmp_path / f".chatsession/locks/{number:02}").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            refused, fine = await storage.commit_many([Change(key, Action.PUT, b"2") for key in ("424242", other_key)])
        assert isinstance(refused, StorageUnavailableError)
        assert "stopped" in str(refused)
        assert isinstance(fine, Committed)
        assert await value_of(storage, "424242") == b"1"
        assert list((tmp_path / ".chatsession/drafts").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"00000000 [1,{}]", b"\0" * 100])
async def test_a_damaged_lock_file_costs_leases_and_no_update(tmp_path: Path, damage: bytes) -> None:
    async with FileStorage(tmp_path) as storage:
        old = await lock(storage, "424242")
        for path in (tmp_path / ".chatsession/locks").iterdir():
            path.write_bytes(damage)
        change = Change("424242", Action.PUT, b"1", lease=old.lease, unlock=True)
        assert await storage.commit_many([change]) == [Refused.LEASE_LOST]
        assert (await lock(storage, "424242")).lease.token > old.lease.token


async def test_removed_lock_files_are_made_again(tmp_path: Path) -> None:
    async with FileStorage(tmp_path) as storage:
        await lock(storage, "424242")
        for path in (tmp_path / ".chatsession/locks").iterdir():
            path.unlink()
        await lock(storage, "424242")


async def test_a_clock_that_is_set_back_makes_no_lease_longer(tmp_path: Path) -> None:
    clock = MovableClock()
    async with FileStorage(tmp_path, clock=clock) as storage:
        await lock(storage, "424242", 30.0)
        clock.advance(-3600.0)
        request_ = request("424242")
        assert await try_lock(storage, request_) is None
        clock.advance(30.0)
        await wait_for_lock(storage, request_)


async def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """Files may not grow beyond 4,096 bytes here, as on a disk that has no more room."""
    body = """
        import resource
        await storage.commit_many([Change("424242", Action.PUT, b"1" * 3000)])
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        found = await storage.lock_many([LockRequest("424242", "w", 600.0)])
        large = Change("424242", Action.PUT, b"2" * 5000, lease=found[0].lease, unlock=True)
        outcomes = await storage.commit_many([large, Change("1", Action.PUT, b"3")])
        print(type(outcomes[0]).__name__, type(outcomes[1]).__name__, flush=True)
        (found,) = await storage.read_many(["424242"])
        print(found.value == b"1" * 3000, await storage.lock_many([LockRequest("424242", "w", 600.0)]) != [None])
"""
    async with child(body, tmp_path) as process:
        await said(process, "StorageError Committed")
        await said(process, "True True")
    assert list((tmp_path / ".chatsession/drafts").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk; others have the test above")
async def test_a_disk_that_is_really_full_loses_nothing(small_disk: Path) -> None:
    async with FileStorage(small_disk) as storage:
        await put(storage, "424242", b'"old"')
        outcomes = await storage.commit_many([Change(str(n), Action.PUT, b"x" * 10_000) for n in range(200)])
        assert "the disk is full" in str(outcomes[-1])
        stored = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Committed)]
        assert stored
        errors = [outcome for outcome in outcomes if isinstance(outcome, StorageError)]
        assert len(stored) + len(errors) == 200
        assert await value_of(storage, "424242") == b'"old"'
        assert [await value_of(storage, str(n)) for n in stored] == [b"x" * 10_000] * len(stored)
        for n in range(200):
            await delete(storage, str(n))
        await put(storage, "424242", b'"new"')


async def test_four_processes_count_exactly_though_one_is_killed(tmp_path: Path) -> None:
    body = """
        from chatsession import SessionConflictError, SessionManager
        async with SessionManager(dict[str, int], storage=storage, lock_lease=1.0) as sessions:
            async def count_up(key):
                try:
                    async with sessions.open(key) as s:
                        n = s.data.get("n", 0)
                        await asyncio.sleep(0)
                        s.data["n"] = n + 1
                except SessionConflictError:  # it stood still for so long that its lock was lost; nothing was written
                    await count_up(key)
            for n in range(30):
                await asyncio.gather(*(count_up(str(key)) for key in range(10)))
                print(n, flush=True)
        print("done", flush=True)
"""
    async with AsyncExitStack() as stack:
        endless = body.replace("range(30)", "range(10**9)")
        children = [await stack.enter_async_context(child(each, tmp_path)) for each in (endless, body, body, body)]
        for n in range(10):
            await said(children[0], str(n))
        children[0].kill()
        output, _ = await children[0].communicate()
        told = 10 + len(output.split())
        for each in children[1:]:
            for words in (*map(str, range(30)), "done"):
                await said(each, words)
    async with FileStorage(tmp_path) as storage:
        for key in range(10):
            value = json.loads(await value_of(storage, str(key)) or b"{}")
            assert 90 + told <= value["n"] <= 90 + told + 1

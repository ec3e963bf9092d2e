"""A soak of seconds: after a burst of updates, a storage holds no more than after the burst before."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chatsession import MemoryStorage, open_storage
from tools.soak._load import Load
from tools.soak._samples import held
from tools.soak._storages import STORAGES

pytestmark = pytest.mark.usefixtures("quick_collections")

_BURST = 120

Count = dict[str, int]


class LeakError(AssertionError):
    """Each burst left something."""


def counted() -> Count:
    """What this process holds, of what must come to an end with each update."""
    gc.collect()
    now = held()
    # By their class as it is: to ask a lazy proxy for its `__class__` would wake it.
    ours = sum(str(type(each).__module__).startswith("chatsession.") for each in gc.get_objects())
    return {"tasks": now.tasks, "fds": now.fds, "sockets": now.sockets, "threads": now.threads, "objects": ours}


async def settled(before: Count, seconds: float) -> Count:
    """Wait until no more is held than before; what is still more after some seconds is returned."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        more = {name: count - before[name] for name, count in counted().items() if count > before.get(name, count)}
        if not more or asyncio.get_running_loop().time() > end:
            return more
        await asyncio.sleep(0.05)


async def burst(load: Load) -> None:
    """Updates in a few lanes, as fast as they go."""
    await asyncio.gather(*(_lane(load) for _ in range(8)))


async def soak_shortly(url: str) -> None:
    """Burst after burst, until one leaves nothing behind; then nothing may be left when the storage is closed."""
    # The loop's own thread for blocking calls stays as long as the loop; drivers that look up names would add more.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    await asyncio.to_thread(int)
    at_first = counted()
    async with open_storage(url) as storage:
        load = Load(storage)
        await leave_nothing(lambda: burst(load))
        assert load.tally.errors == 0, load.tally.last_error
        assert (await load.check()).endswith("ok")
        await load.close()
    del at_first["objects"]  # what a module makes at its first use stays
    if more := await settled(at_first, 60.0):
        raise LeakError(f"left when the storage was closed: {more}")


async def leave_nothing(work: Callable[[], Awaitable[None]], times: int = 12, retry_for: float = 10.0) -> None:
    """Do this again and again, until it leaves nothing behind.

    A pool of connections may grow some times; a leak grows each time.

    Raises:
        LeakError: it always left something.
    """
    more: Count = {}
    await work()
    for _ in range(times):
        before = counted()
        await work()
        more = await settled(before, retry_for)
        if not more:
            return
    raise LeakError(f"each burst of updates leaves more, the last one: {more}")


@pytest.mark.parametrize("name", STORAGES)
async def test_nothing_grows(name: str, tmp_path: Path) -> None:
    with STORAGES[name](tmp_path) as soaked:
        await soak_shortly(soaked.url)


async def test_a_task_left_running_is_a_leak() -> None:
    left: list[asyncio.Task[bool]] = []
    ends = asyncio.Event()

    async def leak() -> None:
        left.append(asyncio.create_task(ends.wait()))

    await _is_found(leak, "tasks")
    ends.set()
    await asyncio.gather(*left)


async def test_a_file_left_open_is_a_leak() -> None:
    left: list[int] = []

    async def leak() -> None:
        left.append(os.open(os.devnull, os.O_RDONLY))

    await _is_found(leak, "fds")
    for each in left:
        os.close(each)


async def test_an_object_kept_is_a_leak() -> None:
    left: list[object] = []

    async def leak() -> None:
        left.append(MemoryStorage())

    await _is_found(leak, "objects")


async def _is_found(leak: Callable[[], Awaitable[None]], what: str) -> None:
    async with MemoryStorage() as storage:
        load = Load(storage)

        async def work() -> None:
            await burst(load)
            await leak()

        with pytest.raises(LeakError, match=what):
            await leave_nothing(work, times=3, retry_for=0.1)
        await load.close()


async def _lane(load: Load) -> None:
    for _ in range(_BURST // 8):
        await load.step()

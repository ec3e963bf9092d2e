"""What the tests of the core share: both storages, and the three ways in which an update reaches its session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from core_aids import WAYS, RecordingMemory, RecordingSQLite, Way, assert_nothing_is_held

from chatsession.storages import Storage
from chatsession.testing.storages import MovableClock


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture(params=["memory", "sqlite"])
def make_storage(request: pytest.FixtureRequest, tmp_path: Path, clock: MovableClock) -> Callable[[], Storage]:
    if request.param == "memory":
        return lambda: RecordingMemory(clock=clock)
    return lambda: RecordingSQLite(tmp_path / "bot.db", clock=clock)


@pytest.fixture
async def storage(make_storage: Callable[[], Storage]) -> AsyncIterator[Storage]:
    """An open storage; whatever a test does, nothing may be held when it ends."""
    async with make_storage() as storage:
        yield storage
        await assert_nothing_is_held(storage)


@pytest.fixture
async def sqlite(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Storage]:
    async with RecordingSQLite(tmp_path / "bot.db", clock=clock) as storage:
        yield storage
        await assert_nothing_is_held(storage)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """`sessions.open`, the strict middleware or the lazy one."""
    return WAYS[request.param]


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"left running: {left}"

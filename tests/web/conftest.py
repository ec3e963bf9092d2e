from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser
from web_aids import Visitor

from browsers import chromium
from chatsession.storages import Storage
from chatsession.storages.sqlite import SQLiteStorage
from chatsession.web import Inspector, inspecting


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bot.db"


@pytest.fixture
async def bot(file: Path) -> AsyncIterator[Storage]:
    """The storage as the bot has it open; the inspector has it open a second time."""
    async with SQLiteStorage(file) as storage:
        yield storage


@pytest.fixture
def visiting(file: Path) -> Callable[..., AbstractAsyncContextManager[Visitor]]:
    """Runs an inspector with the options given, and lets a visitor in."""

    @asynccontextmanager
    async def visiting(**options: object) -> AsyncIterator[Visitor]:
        async with (
            inspecting(SQLiteStorage(file), **options) as inspector,  # type: ignore[arg-type] # options of any test
            Visitor(inspector).let_in(inspector.invite()) as visitor,
        ):
            yield visitor

    return visiting


@pytest.fixture
async def visitor(visiting: Callable[..., AbstractAsyncContextManager[Visitor]]) -> AsyncIterator[Visitor]:
    async with visiting() as visitor:
        yield visitor


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def inspector(bot: Storage, file: Path) -> AsyncIterator[Inspector]:
    async with inspecting(SQLiteStorage(file), name="sqlite:///bot.db") as inspector:
        yield inspector


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:  # those that are about to end
        _, left = await asyncio.wait(left, timeout=60)
    assert not left, f"left running: {left}"

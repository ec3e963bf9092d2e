"""For the tests of your own bot: keeps its sessions in memory, where tests can set and read them and move the time.

In `conftest.py`:

    pytest_plugins = ["chatsession.testing.bots"]

and in a test, where `bot.sessions` is the `SessionManager` of your bot, with any storage:

    async def test_a_pizza_counts(tested_sessions):
        async with tested_sessions(bot.sessions) as stored:
            await stored.put(42, Pizza(count=3))
            await bot.dp.feed_update(...)
            assert await stored.get(42) == Pizza(count=4)
            stored.advance(86_400)              # a day later
            assert await stored.get(42) is None
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeAlias, TypeVar

import pytest

from chatsession.manager import SessionManager
from chatsession.storages.memory import MemoryStorage
from chatsession.unit_of_work.runtime import Runtime

T = TypeVar("T")

_BEGINNING = 1_800_000_000.0


class StoredSessions(Generic[T]):
    """The sessions of a manager under test."""

    def __init__(self, sessions: SessionManager[T], clock: list[float]) -> None:
        self._sessions = sessions
        self._clock = clock

    async def put(self, key: str | int, value: T) -> None:
        """Store a session, replacing what is stored."""
        await self._sessions.put(key, value)

    async def get(self, key: str | int) -> T | None:
        """The stored value; `None` if there is none."""
        return await self._sessions.get(key)

    async def all(self) -> dict[str, T]:
        """All stored values by key."""
        return {key: value async for key, value in self._sessions.entries()}

    def advance(self, seconds: float) -> None:
        """Move the clock forward, for `ttl`."""
        self._clock[0] += seconds


@contextlib.asynccontextmanager
async def in_memory(sessions: SessionManager[T]) -> AsyncGenerator[StoredSessions[T], None]:
    """Let a manager keep its sessions in memory for the duration of a test. Its own storage is not touched.

    Examples:
        >>> import asyncio
        >>> from chatsession import SessionManager
        >>> from chatsession.testing.bots import in_memory
        >>> counters = SessionManager(int, storage="redis://production.example")
        >>> async def test() -> None:
        ...     async with in_memory(counters) as stored:
        ...         await stored.put(1, 41)
        ...         print(await counters.update(1, lambda count: count + 1), await stored.all())
        >>> asyncio.run(test())
        42 {'1': 42}
    """
    storage, runtime = sessions.storage, sessions.runtime
    clock = [_BEGINNING]
    sessions.storage = MemoryStorage(clock=lambda: clock[0])
    sessions.runtime = sessions.units.runtime = Runtime(sessions.options, sessions.storage)
    try:
        await sessions.start()
        yield StoredSessions(sessions, clock)
    finally:
        try:
            await sessions.aclose()
        finally:
            sessions.storage = storage
            sessions.runtime = sessions.units.runtime = runtime


TestedSessions: TypeAlias = Callable[[SessionManager[Any]], AbstractAsyncContextManager[StoredSessions[Any]]]
"""The type of the fixture `tested_sessions`."""


@pytest.fixture
def tested_sessions() -> TestedSessions:
    """`in_memory` as a fixture."""
    return in_memory

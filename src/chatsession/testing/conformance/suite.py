"""Shared by all parts of the suite: how storages are made and opened again, and how time passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import ClassVar, TypeAlias

import pytest
import pytest_asyncio

from chatsession.storages import Storage

MakeStorage: TypeAlias = Callable[[], Storage]
OpenAnother: TypeAlias = Callable[[], Awaitable[Storage]]


class MovableClock:
    """A clock for storages that take one. It stands still until it is moved.

    Args:
        now: Unix time in seconds.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now += seconds


class Time:
    """How time passes for a storage: immediately if its clock can be moved, in real time otherwise.

    Args:
        clock: the storage's clock; `None`: it cannot be moved.
        tick: seconds; tests measure times to live and leases in ticks.
    """

    def __init__(self, clock: MovableClock | None, tick: float) -> None:
        self.clock = clock
        self._tick = 10.0 if clock else tick

    @property
    def ample(self) -> float:
        """Ticks that are enough for a few calls even on a busy machine."""
        return 2.0 if self.clock else 8.0

    def seconds(self, ticks: float) -> float:
        """A number of ticks in seconds."""
        return ticks * self._tick

    async def passes(self, ticks: float) -> None:
        """Return after a number of ticks."""
        if self.clock is None:
            await asyncio.sleep(self.seconds(ticks))
        else:
            self.clock.advance(self.seconds(ticks))
            await asyncio.sleep(0)

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str, most: float = 60.0) -> None:
        """Let time pass until something holds; fails after `most` ticks."""
        for _ in range(int(most * 4)):
            if await holds():
                return
            await self.passes(0.25)
        pytest.fail(f"still not after {self.seconds(most):g} s: {what}")


class StorageSuite:
    """The fixtures and settings of every part; a subclass overrides `make_storage`, and the rest where it must."""

    tick: ClassVar[float] = 0.5
    """Seconds that the shortest time to live and the shortest lease last, if the clock cannot be moved."""
    largest_value: ClassVar[int] = 4 * 1024 * 1024
    """Bytes of the largest value that is tried."""
    tells_expiry: ClassVar[bool] = True
    """Whether a record that was read tells its `expires_at`."""
    more_keys: ClassVar[Sequence[str]] = ()
    """Keys that look like names which this storage uses inside, to be tried too."""

    @pytest.fixture
    def clock(self) -> MovableClock | None:
        """Override to return a `MovableClock`, if the storage takes a clock; `make_storage` hands it over."""
        return None

    @pytest.fixture
    def make_storage(self) -> MakeStorage:
        """Override: a function without parameters that returns a new, unopened storage object.

        All objects of one test work on the same data, which is empty when the test begins, and play processes that
        share it. For a storage whose `shared` is false, it is called once a test.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a fixture make_storage")

    @pytest.fixture
    def time(self, clock: MovableClock | None) -> Time:
        return Time(clock, self.tick)

    @pytest_asyncio.fixture
    async def open_another(self, make_storage: MakeStorage) -> AsyncIterator[OpenAnother]:
        """Opens one more storage object onto the same data (the same object, if it is private to its process)."""
        async with AsyncExitStack() as stack:
            opened: list[Storage] = []

            async def open_another() -> Storage:
                if opened and not opened[0].shared:
                    return opened[0]
                opened.append(await stack.enter_async_context(make_storage()))
                return opened[-1]

            yield open_another

    @pytest_asyncio.fixture
    async def storage(self, open_another: OpenAnother) -> Storage:
        return await open_another()

    @pytest_asyncio.fixture
    async def other(self, storage: Storage, open_another: OpenAnother) -> Storage:
        """Another process's view of the same data."""
        return await open_another()

"""Shared by all parts: the storages, a running bot, and what it has stored."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

import pytest
import pytest_asyncio

from chatsession.manager import SessionManager
from chatsession.storages import Change, Locked, LockRequest, Outcome, Record, Storage
from chatsession.storages.memory import MemoryStorage
from chatsession.testing.integration_suite.driver import FrameworkDriver, MakeDriver, NeutralContext, NeutralHandler
from chatsession.testing.integration_suite.incoming import Incoming

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
Where: TypeAlias = Storage | str

PATIENCE = 120
"""Seconds after which a test that hangs fails; long, because machines can be busy."""


@dataclass
class Pizza:
    """The session of most scenarios."""

    count: int = 0
    toppings: list[str] = field(default_factory=list[str])


class BurntError(Exception):
    """Raised by handlers of the suite."""


class CountingStorage(MemoryStorage):
    """A storage in memory that passes for a shared one and counts its calls."""

    shared: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | None]:
        self.calls["read"] += len(keys)
        return await super().read_many(keys)

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | None]:
        self.calls["lock"] += len(requests)
        return await super().lock_many(requests)

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        self.calls.update(change.action.value for change in changes)
        return await super().commit_many(changes)


class IntegrationSuite:
    """The fixtures of every part; a subclass overrides `make_driver`."""

    @pytest.fixture
    def make_driver(self) -> MakeDriver:
        """Override: a function without parameters (such as the driver's class) that returns a new driver."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture make_driver")

    @pytest_asyncio.fixture
    async def driver(self, make_driver: MakeDriver) -> FrameworkDriver:
        """A bot, made in the test's event loop, because some frameworks need one when a client is made."""
        return make_driver()

    @pytest.fixture(params=["memory", "sqlite"])
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path) -> Where:
        """Where all managers of one test keep their sessions."""
        return MemoryStorage() if request.param == "memory" else f"sqlite:///{tmp_path / 'bot.db'}"

    @pytest.fixture
    def sessions(self, storage: Where) -> SessionManager[Pizza]:
        return SessionManager(Pizza, storage=storage)


@asynccontextmanager
async def running(
    driver: FrameworkDriver,
    handler: NeutralHandler,
    *managers: SessionManager[Any],
    lazy: bool = False,
    wants: Collection[SessionManager[Any]] | None = None,
) -> AsyncGenerator[FrameworkDriver]:
    """Run a bot with one handler; at the end, it has no errors that were not taken by `take_error`.

    Args:
        driver: the bot.
        handler: its handler.
        managers: whose sessions are set up.
        lazy: how they are set up.
        wants: what the handler asks for; by default all of them.
    """
    for manager in managers:
        driver.setup(manager, lazy=lazy)
    driver.handle(handler, wants=managers if wants is None else wants)
    await driver.start()
    try:
        yield driver
    finally:
        await driver.stop()
    assert driver.errors == []


async def feed(driver: FrameworkDriver, *updates: Incoming) -> None:
    """Feed updates one after the other."""
    for update in updates:
        await driver.feed(update)


async def feed_at_once(driver: FrameworkDriver, *updates: Incoming) -> None:
    """Feed updates at the same time, in this order."""
    await asyncio.gather(*map(driver.feed, updates))


def take_error(driver: FrameworkDriver, kind: type[E]) -> E:
    """The bot's only error, which must be of this kind."""
    assert [type(error) for error in driver.errors] == [kind], driver.errors
    error = driver.errors.pop()
    assert isinstance(error, kind)
    return error


async def stored(storage: Where, key: int, of_type: type[T]) -> T | None:
    """What a bot that has stopped has stored under a key."""
    async with SessionManager(of_type, storage=storage) as sessions:
        return await sessions.get(key)


def count_up(sessions: SessionManager[Pizza]) -> NeutralHandler:
    """A handler that counts up, lets other tasks run meanwhile, notes the text, and fails at the text `burn`."""

    async def handler(chat: NeutralContext) -> None:
        pizza = await chat.of(sessions).get()
        count = pizza.count
        await asyncio.sleep(0)
        pizza.count = count + 1
        pizza.toppings.append(chat.text)
        if chat.text == "burn":
            raise BurntError

    return handler


async def until(holds: Callable[[], bool], what: str) -> None:
    """Let other tasks run until something holds."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110 - what is looked at has no event
                await asyncio.sleep(0)
    except TimeoutError:
        pytest.fail(f"still not after {PATIENCE} s: {what}")

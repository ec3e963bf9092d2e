"""Sessions of several managers in one update, and one manager of several bots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from chatsession.errors import SessionEncodeError, StorageUnavailableError
from chatsession.manager import SessionManager
from chatsession.storages import Action, Change, Outcome
from chatsession.storages.memory import MemoryStorage
from chatsession.testing.integration_suite.driver import FrameworkDriver, MakeDriver, NeutralContext
from chatsession.testing.integration_suite.incoming import Incoming
from chatsession.testing.integration_suite.suite import (
    IntegrationSuite,
    Pizza,
    Where,
    count_up,
    feed,
    running,
    stored,
    take_error,
)


class _FullStorage(MemoryStorage):
    """A storage that can be read, and refuses all that is written."""

    shared: ClassVar[bool] = True

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        if any(change.action is Action.PUT for change in changes):
            raise StorageUnavailableError("the disk is full")
        return await super().commit_many(changes)


def _several(driver: FrameworkDriver) -> None:
    if not driver.several_managers:
        pytest.skip("this framework has one manager a bot")


class TogetherTests(IntegrationSuite):
    """All sessions of an update are stored, or none."""

    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("unstorable", [0, 1])
    async def test_one_of_two_cannot_be_stored(
        self, driver: FrameworkDriver, storage: Where, lazy: bool, unstorable: int
    ) -> None:
        _several(driver)
        managers = [
            SessionManager(Pizza, storage=storage, prefix="one:", name="one"),
            SessionManager(Pizza, storage=storage, prefix="two:", name="two"),
        ]

        async def handler(chat: NeutralContext) -> None:
            for place, manager in enumerate(managers):
                pizza = await chat.of(manager).get()
                pizza.count += 1
                if chat.text == "object" and place == unstorable:
                    toppings: list[Any] = [object()]
                    pizza.toppings = toppings

        async with running(driver, handler, *managers, lazy=lazy):
            await feed(driver, Incoming("object"))
            take_error(driver, SessionEncodeError)
            assert [await manager.get(7) for manager in managers] == [None, None]
            await feed(driver, Incoming("a"))
            assert [await manager.get(7) for manager in managers] == [Pizza(1), Pizza(1)]

    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("refused_first", [False, True])
    async def test_one_of_two_is_refused_by_the_storage(
        self, driver: FrameworkDriver, lazy: bool, refused_first: bool
    ) -> None:
        """Each storage is atomic by itself: the error comes out, the other is complete, and both are free again."""
        _several(driver)
        refused = SessionManager(Pizza, storage=_FullStorage(), name="refused")
        taken = SessionManager(Pizza, storage=MemoryStorage(), name="taken")
        managers = [refused, taken] if refused_first else [taken, refused]

        async def handler(chat: NeutralContext) -> None:
            if chat.text == "both":
                (await chat.of(refused).get()).count += 1
            (await chat.of(taken).get()).count += 1

        async with running(driver, handler, *managers, lazy=lazy):
            await feed(driver, Incoming("both"))
            take_error(driver, StorageUnavailableError)
            assert await refused.get(7) is None
            assert (refused.runtime.active, taken.runtime.active) == (0, 0)
            before = await taken.get(7)
            await feed(driver, Incoming("one"))
            assert await taken.get(7) == Pizza(1 if before is None else before.count + 1)

    async def test_a_manager_of_two_bots_is_open_until_the_second_stops(
        self, make_driver: MakeDriver, storage: Where
    ) -> None:
        sessions = SessionManager(Pizza, storage=storage)
        first, second = make_driver(), make_driver()
        async with running(second, count_up(sessions), sessions):
            async with running(first, count_up(sessions), sessions):
                await feed(first, Incoming("a"))
            assert sessions.runtime.loop is not None, "the first bot that stopped has closed the manager"
            await feed(second, Incoming("b"))
        assert sessions.runtime.loop is None, "the last bot has left the manager open"
        assert await stored(storage, 7, Pizza) == Pizza(2, ["a", "b"])

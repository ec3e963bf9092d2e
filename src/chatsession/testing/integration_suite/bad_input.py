"""Bots that are set up wrongly, and updates of kinds that the framework does not know."""

from __future__ import annotations

import pytest

from chatsession.errors import SessionClosedError
from chatsession.manager import SessionManager
from chatsession.testing.integration_suite.driver import FrameworkDriver, NeutralContext
from chatsession.testing.integration_suite.incoming import Incoming, Kind
from chatsession.testing.integration_suite.suite import (
    IntegrationSuite,
    Pizza,
    Where,
    count_up,
    feed,
    running,
    take_error,
)


class BadInputTests(IntegrationSuite):
    """Each works as the usual way does, or is refused at once."""

    async def test_handlers_may_be_registered_before_the_sessions_are_set_up(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        driver.handle(count_up(sessions), wants=[sessions])
        driver.setup(sessions)
        await driver.start()
        await feed(driver, Incoming("a"), Incoming("b"))
        found = await sessions.get(7)
        await driver.stop()
        assert driver.errors == []
        assert found == Pizza(2, ["a", "b"])

    async def test_set_up_twice_is_refused_and_does_no_harm(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        driver.setup(sessions)
        with pytest.raises(ValueError, match="set up"):
            driver.setup(sessions)
        async with running(driver, count_up(sessions), wants=[sessions]):
            await feed(driver, Incoming("a"))
            assert await sessions.get(7) == Pizza(1, ["a"])

    async def test_two_managers_of_one_name_are_refused(self, driver: FrameworkDriver, storage: Where) -> None:
        driver.setup(SessionManager(Pizza, storage=storage))
        with pytest.raises(ValueError, match="name"):
            driver.setup(SessionManager(int, storage=storage, prefix="number:"))

    async def test_a_manager_that_is_closed_already(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        """Its handlers do not run, and the error says why. Started again, it works."""
        seen: list[str] = []
        counting = count_up(sessions)

        async def handler(chat: NeutralContext) -> None:
            await counting(chat)
            seen.append(chat.text)

        async with running(driver, handler, sessions):
            await sessions.aclose()
            await feed(driver, Incoming("a"))
            take_error(driver, SessionClosedError)
            await sessions.start()
            await feed(driver, Incoming("b"))
            assert await sessions.get(7) == Pizza(1, ["b"])
        assert seen == ["b"]

    async def test_a_manager_that_was_closed_is_opened_by_the_start_of_the_bot(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        async with sessions:
            pass
        async with running(driver, count_up(sessions), sessions):
            await feed(driver, Incoming("a"))
            assert await sessions.get(7) == Pizza(1, ["a"])

    async def test_updates_of_an_unknown_kind(self, driver: FrameworkDriver, sessions: SessionManager[Pizza]) -> None:
        async with running(driver, count_up(sessions), sessions):
            await feed(driver, Incoming(kind=Kind.UNKNOWN), Incoming("a"), Incoming(kind=Kind.UNKNOWN))
            assert await sessions.get(7) == Pizza(1, ["a"])

"""Updates that are delivered again."""

from __future__ import annotations

import pytest
import pytest_asyncio

from chatsession.manager import SessionManager
from chatsession.testing.integration_suite.driver import FrameworkDriver, MakeDriver, NeutralContext, NeutralHandler
from chatsession.testing.integration_suite.incoming import Incoming
from chatsession.testing.integration_suite.suite import (
    BurntError,
    IntegrationSuite,
    Pizza,
    Where,
    count_up,
    feed,
    feed_at_once,
    running,
    stored,
    take_error,
)


class AgainTests(IntegrationSuite):
    """What was committed is not handled again; what failed is."""

    seen: list[str]
    """The texts that handlers saw: an update that comes again must not even reach them."""

    @pytest_asyncio.fixture
    async def numbering(self, make_driver: MakeDriver) -> FrameworkDriver:
        driver = make_driver()
        if not driver.update_ids:
            pytest.skip("updates of this framework have no ids")
        return driver

    @pytest.fixture(autouse=True)
    def nothing_seen(self) -> None:
        self.seen = []

    @pytest.fixture
    def remembering(self, storage: Where) -> SessionManager[Pizza]:
        return SessionManager(Pizza, storage=storage, deduplicate=100)

    @pytest.mark.parametrize("lazy", [False, True])
    async def test_an_update_that_comes_again_is_not_handled_again(
        self, numbering: FrameworkDriver, remembering: SessionManager[Pizza], lazy: bool
    ) -> None:
        first, second = Incoming("a"), Incoming("b")
        async with running(numbering, self.handler(remembering), remembering, lazy=lazy):
            await feed(numbering, first, first, second, first, second, first)
            assert await remembering.get(7) == Pizza(2, ["a", "b"])
        assert self.seen == ["a", "b"]

    async def test_updates_that_come_several_times_at_once_are_handled_once(
        self, numbering: FrameworkDriver, remembering: SessionManager[Pizza]
    ) -> None:
        updates = [Incoming(str(n), chat_id=n % 3 + 1) for n in range(30)]
        async with running(numbering, self.handler(remembering), remembering):
            await feed_at_once(numbering, *updates, *reversed(updates), *updates)
            for chat in range(3):
                assert await remembering.get(chat + 1) == Pizza(10, [str(n) for n in range(chat, 30, 3)])
        assert len(self.seen) == 30

    async def test_an_update_that_failed_is_handled_when_it_comes_again(
        self, numbering: FrameworkDriver, remembering: SessionManager[Pizza]
    ) -> None:
        failures = [BurntError()]

        async def handler(chat: NeutralContext) -> None:
            (await chat.of(remembering).get()).count += 1
            self.seen.append(chat.text)
            if failures:
                raise failures.pop()

        update = Incoming()
        async with running(numbering, handler, remembering):
            await feed(numbering, update)
            take_error(numbering, BurntError)
            await feed(numbering, update, update)
            assert await remembering.get(7) == Pizza(1)
        assert self.seen == ["🍕", "🍕"]

    async def test_an_update_that_comes_again_after_a_restart(
        self, numbering: FrameworkDriver, make_driver: MakeDriver, remembering: SessionManager[Pizza], storage: Where
    ) -> None:
        update = Incoming("a")
        async with running(numbering, self.handler(remembering), remembering):
            await feed(numbering, update)
        remembering = SessionManager(Pizza, storage=storage, deduplicate=100)
        async with running(make_driver(), self.handler(remembering), remembering) as numbering:
            await feed(numbering, update, Incoming("b"))
        assert await stored(storage, 7, Pizza) == Pizza(2, ["a", "b"])
        assert self.seen == ["a", "b"]

    @pytest.mark.parametrize("named", [0, 1])
    async def test_only_the_sessions_that_a_handler_asks_for_have_a_say(
        self, numbering: FrameworkDriver, remembering: SessionManager[Pizza], storage: Where, named: int
    ) -> None:
        if not numbering.several_managers:
            pytest.skip("there is one manager at most")
        other = SessionManager(Pizza, storage=storage, deduplicate=100, name="other", prefix="other:")
        both = (remembering, other)
        update = Incoming("a")
        async with running(numbering, self.handler(both[named]), *both, wants=[both[named]]):
            await feed(numbering, update, update, Incoming("b"), update)
            assert await both[named].get(7) == Pizza(2, ["a", "b"])
        assert self.seen == ["a", "b"]

    def handler(self, remembering: SessionManager[Pizza]) -> NeutralHandler:
        """A handler that counts up."""
        counting = count_up(remembering)

        async def handler(chat: NeutralContext) -> None:
            self.seen.append(chat.text)
            await counting(chat)

        return handler

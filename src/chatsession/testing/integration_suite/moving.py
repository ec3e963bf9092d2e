"""A group that becomes a supergroup."""

from __future__ import annotations

from itertools import chain

import pytest
import pytest_asyncio

from chatsession.manager import SessionManager
from chatsession.testing.integration_suite.driver import FrameworkDriver, MakeDriver
from chatsession.testing.integration_suite.incoming import Incoming, Kind
from chatsession.testing.integration_suite.suite import (
    IntegrationSuite,
    Pizza,
    Where,
    count_up,
    feed,
    feed_at_once,
    running,
    stored,
)

OLD, NEW = -2002, -1002002
ORDERS = ["to", "from", "to from", "from to", "to to from from", "from to from to"]


class MovingTests(IntegrationSuite):
    """The session moves along, once, in whatever order the messages arrive."""

    @pytest_asyncio.fixture
    async def noticing(self, make_driver: MakeDriver) -> FrameworkDriver:
        driver = make_driver()
        if not driver.chat_moves:
            pytest.skip("this framework shows no service messages of chats that move")
        return driver

    @pytest.fixture
    def merging(self, storage: Where) -> SessionManager[Pizza]:
        return SessionManager(Pizza, storage=storage, merge=both)

    @pytest.mark.parametrize("order", ORDERS)
    async def test_the_session_goes_along(
        self, noticing: FrameworkDriver, merging: SessionManager[Pizza], order: str
    ) -> None:
        async with running(noticing, count_up(merging), merging):
            await feed(noticing, old("a"), old("b"), *messages(order), new("c"))
            assert await merging.get(NEW) == Pizza(3, ["a", "b", "c"])

    @pytest.mark.parametrize("order", ORDERS)
    async def test_updates_of_both_ids_in_between(
        self, noticing: FrameworkDriver, merging: SessionManager[Pizza], storage: Where, order: str
    ) -> None:
        between = chain.from_iterable((message, old("b"), new("c"), old("d")) for message in messages(order))
        async with running(noticing, count_up(merging), merging):
            await feed(noticing, old("a"), *between, old("e"), new("f"))
        found = await stored(storage, NEW, Pizza)
        assert found is not None
        assert found.toppings == ["a", *("b", "c", "d") * len(order.split()), "e", "f"]
        assert found.count == len(found.toppings)

    @pytest.mark.parametrize("order", ORDERS)
    async def test_updates_of_both_ids_at_once(
        self, noticing: FrameworkDriver, merging: SessionManager[Pizza], order: str
    ) -> None:
        crowd = [update for n in range(20) for update in (old(f"old {n}"), new(f"new {n}"))]
        updates = crowd[:10] + messages(order) + crowd[10:]
        async with running(noticing, count_up(merging), merging):
            await feed(noticing, old("first"))
            await feed_at_once(noticing, *updates)
            await feed(noticing, *messages(order), old("last"))
            found = await merging.get(NEW)
            assert found is not None
            assert sorted(found.toppings) == sorted(["first", *(update.text for update in crowd), "last"])
            assert found.count == len(found.toppings)

    async def test_other_chats_stay_where_they_are(
        self, noticing: FrameworkDriver, merging: SessionManager[Pizza]
    ) -> None:
        other = Incoming("a", chat_id=-2003)
        async with running(noticing, count_up(merging), merging):
            await feed(noticing, other, *messages("to from"), new("b"))
            assert await merging.get(-2003) == Pizza(1, ["a"])
            assert await merging.get(NEW) == Pizza(1, ["b"])

    async def test_a_move_is_remembered_after_a_restart(
        self, noticing: FrameworkDriver, make_driver: MakeDriver, merging: SessionManager[Pizza], storage: Where
    ) -> None:
        async with running(noticing, count_up(merging), merging):
            await feed(noticing, old("a"), *messages("to"))
        merging = SessionManager(Pizza, storage=storage, merge=both)
        async with running(make_driver(), count_up(merging), merging) as noticing:
            await feed(noticing, old("b"), *messages("from"), old("c"))
            assert await merging.get(NEW) == Pizza(3, ["a", "b", "c"])


def both(one: Pizza, other: Pizza) -> Pizza:
    """The data of a chat that was written under both of its ids."""
    return Pizza(one.count + other.count, one.toppings + other.toppings)


def old(text: str) -> Incoming:
    return Incoming(text, chat_id=OLD)


def new(text: str) -> Incoming:
    return Incoming(text, chat_id=NEW)


def messages(order: str) -> list[Incoming]:
    """The service messages in an order such as `"to from"`."""
    made = {
        "to": lambda: Incoming(kind=Kind.MIGRATE_TO, chat_id=OLD, other_chat_id=NEW),
        "from": lambda: Incoming(kind=Kind.MIGRATE_FROM, chat_id=NEW, other_chat_id=OLD),
    }
    return [made[name]() for name in order.split()]

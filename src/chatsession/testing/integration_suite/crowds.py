"""Many updates at once; several kinds of session side by side."""

from __future__ import annotations

import asyncio

import pytest

from chatsession.keys import per_user
from chatsession.manager import SessionManager
from chatsession.testing.integration_suite.driver import FrameworkDriver, MakeDriver, NeutralContext
from chatsession.testing.integration_suite.incoming import Incoming, Kind
from chatsession.testing.integration_suite.suite import (
    PATIENCE,
    BurntError,
    IntegrationSuite,
    Pizza,
    Where,
    count_up,
    feed,
    feed_at_once,
    running,
    take_error,
)

GROUP = -1001


class CrowdTests(IntegrationSuite):
    """Many updates at once, of one session and of several."""

    @pytest.mark.parametrize("lazy", [False, True])
    async def test_many_updates_of_one_chat_are_exact_and_in_order(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza], lazy: bool
    ) -> None:
        texts = [str(n) for n in range(100)]
        async with running(driver, count_up(sessions), sessions, lazy=lazy):
            await feed_at_once(driver, *(Incoming(text, chat_id=GROUP) for text in texts))
            assert await sessions.get(GROUP) == Pizza(100, texts)

    async def test_many_updates_of_many_chats_are_exact_and_in_order(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        async with running(driver, count_up(sessions), sessions):
            await feed_at_once(driver, *(Incoming(str(n), chat_id=n % 20 + 1) for n in range(200)))
            for chat in range(20):
                assert await sessions.get(chat + 1) == Pizza(10, [str(n) for n in range(chat, 200, 20)])

    async def test_failures_among_them_take_nothing_with_them(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        async with running(driver, count_up(sessions), sessions):
            await feed_at_once(driver, *(Incoming("a" if n % 3 else "burn") for n in range(60)))
            assert [type(error) for error in driver.errors] == [BurntError] * 20
            driver.errors.clear()
            assert await sessions.get(7) == Pizza(40, ["a"] * 40)

    async def test_chats_run_beside_each_other(self, driver: FrameworkDriver, sessions: SessionManager[Pizza]) -> None:
        everybody = asyncio.Barrier(30)

        async def handler(chat: NeutralContext) -> None:
            pizza = await chat.of(sessions).get()
            await everybody.wait()
            pizza.count += 1

        async with running(driver, handler, sessions), asyncio.timeout(PATIENCE):
            await feed_at_once(driver, *(Incoming(chat_id=n) for n in range(1, 31)))
            assert [pizza.count async for _, pizza in sessions.entries()] == [1] * 30

    async def test_two_bots_on_one_storage(self, make_driver: MakeDriver, storage: Where) -> None:
        bots: list[FrameworkDriver] = []
        managers = [SessionManager(Pizza, storage=storage) for _ in range(2)]
        for sessions in managers:
            driver = make_driver()
            driver.setup(sessions)
            driver.handle(count_up(sessions), wants=[sessions])
            await driver.start()
            bots.append(driver)
        await asyncio.gather(*(bots[n % 2].feed(Incoming(chat_id=GROUP)) for n in range(60)))
        found = await managers[0].get(GROUP)
        for driver in bots:
            await driver.stop()
            assert driver.errors == []
        assert found is not None
        assert found.count == 60

    @pytest.mark.parametrize("lazy", [False, True])
    async def test_several_managers_side_by_side(self, driver: FrameworkDriver, storage: Where, lazy: bool) -> None:
        carts, visits = self._two_managers(driver, storage)

        async def handler(chat: NeutralContext) -> None:
            (await chat.of(carts).get()).append(chat.text)
            session = chat.of(visits)
            session.assign(await session.get() + 1)
            if chat.text == "burn":
                raise BurntError

        async with running(driver, handler, carts, visits, lazy=lazy):
            await feed_at_once(driver, *(Incoming(str(n), chat_id=GROUP - n % 2, user_id=n % 3 + 1) for n in range(30)))
            await feed(driver, Incoming("burn", chat_id=GROUP, user_id=1))
            take_error(driver, BurntError)
            for user in range(3):
                assert sorted(await carts.get(user + 1) or []) == sorted(str(n) for n in range(user, 30, 3))
            assert await visits.get(GROUP) == await visits.get(GROUP - 1) == 15

    async def test_one_of_two_sessions_is_deleted(self, driver: FrameworkDriver, storage: Where) -> None:
        carts, visits = self._two_managers(driver, storage)

        async def handler(chat: NeutralContext) -> None:
            session = chat.of(visits)
            session.assign(await session.get() + 1)
            if chat.text == "/pay":
                chat.of(carts).assign(None)
            else:
                (await chat.of(carts).get()).append(chat.text)

        async with running(driver, handler, carts, visits):
            await feed(driver, Incoming("a"), Incoming("/pay"))
            assert (await carts.get(7), await visits.get(7)) == (None, 2)

    async def test_one_of_two_managers_has_no_session(self, driver: FrameworkDriver, storage: Where) -> None:
        """An inline query has a user's cart, but no chat that could be visited."""
        carts, visits = self._two_managers(driver, storage)

        async def handler(chat: NeutralContext) -> None:
            (await chat.of(carts).get()).append(chat.text)

        async with running(driver, handler, carts, visits, wants=[carts]):
            await feed(driver, Incoming("salad", kind=Kind.INLINE_QUERY))
            assert await carts.get(7) == ["salad"]

    def _two_managers(
        self, driver: FrameworkDriver, storage: Where
    ) -> tuple[SessionManager[list[str]], SessionManager[int]]:
        if not driver.several_managers:
            pytest.skip("this integration takes one manager")
        carts = SessionManager(list[str], storage=storage, name="cart", prefix="cart:", get_session_key=per_user)
        return carts, SessionManager(int, storage=storage, name="visits", prefix="visits:")

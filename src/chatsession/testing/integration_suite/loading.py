"""What handlers get, and what is stored of it."""

from __future__ import annotations

import pytest

from chatsession.errors import SessionKeyError
from chatsession.keys import per_user
from chatsession.manager import SessionManager
from chatsession.testing.integration_suite.driver import FrameworkDriver, NeutralContext
from chatsession.testing.integration_suite.incoming import Incoming, Kind
from chatsession.testing.integration_suite.suite import (
    CountingStorage,
    IntegrationSuite,
    Pizza,
    Where,
    count_up,
    feed,
    running,
    stored,
    take_error,
)

INLINE = Incoming("pizza", kind=Kind.INLINE_QUERY)


class LoadingTests(IntegrationSuite):
    """Strict and lazy, present and absent, whole and replaced."""

    @pytest.mark.parametrize("lazy", [False, True])
    async def test_a_session_is_loaded_and_stored(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza], storage: Where, lazy: bool
    ) -> None:
        async with running(driver, count_up(sessions), sessions, lazy=lazy):
            await feed(driver, Incoming("a"), Incoming("b"), Incoming("c", chat_id=8))
            assert await sessions.get(7) == Pizza(2, ["a", "b"])
        assert await stored(storage, 7, Pizza) == Pizza(2, ["a", "b"])
        assert await stored(storage, 8, Pizza) == Pizza(1, ["c"])

    async def test_lazy_gives_the_same_object_again(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        same: list[bool] = []

        async def handler(chat: NeutralContext) -> None:
            session = chat.of(sessions)
            same.append(await session.get() is await session.get())

        async with running(driver, handler, sessions, lazy=True):
            await feed(driver, Incoming())
        assert same == [True]

    @pytest.mark.parametrize("lazy", [False, True])
    async def test_a_session_is_deleted(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza], lazy: bool
    ) -> None:
        counting = count_up(sessions)

        async def handler(chat: NeutralContext) -> None:
            if chat.text == "/reset":
                chat.of(sessions).assign(None)
            else:
                await counting(chat)

        async with running(driver, handler, sessions, lazy=lazy):
            await feed(driver, Incoming("a"), Incoming("/reset"))
            assert await sessions.get(7) is None
            await feed(driver, Incoming("b"))
            assert await sessions.get(7) == Pizza(1, ["b"])

    @pytest.mark.parametrize("lazy", [False, True])
    async def test_a_session_is_replaced(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza], lazy: bool
    ) -> None:
        seen: list[Pizza] = []

        async def handler(chat: NeutralContext) -> None:
            session = chat.of(sessions)
            seen.append(await session.get())
            session.assign(Pizza(41))
            (await session.get()).count += 1

        async with running(driver, handler, sessions, lazy=lazy):
            await feed(driver, Incoming(), Incoming())
            assert await sessions.get(7) == Pizza(42)
        assert seen == [Pizza(), Pizza(42)]

    @pytest.mark.parametrize("lazy", [False, True])
    async def test_a_primitive_session(self, driver: FrameworkDriver, storage: Where, lazy: bool) -> None:
        numbers = SessionManager(int, storage=storage)

        async def handler(chat: NeutralContext) -> None:
            session = chat.of(numbers)
            session.assign(await session.get() + len(chat.text))

        async with running(driver, handler, numbers, lazy=lazy):
            await feed(driver, Incoming("abc"), Incoming("de"))
            assert await numbers.get(7) == 5

    @pytest.mark.parametrize("lazy", [False, True])
    async def test_an_update_without_a_chat_has_no_session(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza], lazy: bool
    ) -> None:
        async with running(driver, count_up(sessions), sessions, lazy=lazy):
            await feed(driver, INLINE)
            assert "no chat" in str(take_error(driver, SessionKeyError))
            await feed(driver, Incoming("a"))
            assert [key async for key in sessions.keys()] == ["7"]  # noqa: SIM118 - not a dict's

    async def test_a_handler_that_asks_for_none_runs_without_a_chat(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        seen: list[str] = []

        async def handler(chat: NeutralContext) -> None:
            seen.append(chat.text)

        async with running(driver, handler, sessions, wants=[]):
            await feed(driver, INLINE)
        assert seen == ["pizza"]

    async def test_an_update_without_a_chat_has_the_users_session(
        self, driver: FrameworkDriver, storage: Where
    ) -> None:
        sessions = SessionManager(Pizza, storage=storage, get_session_key=per_user)
        async with running(driver, count_up(sessions), sessions):
            await feed(driver, Incoming("a", chat_id=-12, user_id=5), Incoming(kind=Kind.INLINE_QUERY, user_id=5))
            assert await sessions.get(5) == Pizza(2, ["a", "🍕"])

    async def test_a_handler_that_asks_for_none_costs_no_storage_call(self, driver: FrameworkDriver) -> None:
        storage = CountingStorage()
        sessions = SessionManager(Pizza, storage=storage)
        seen: list[str] = []

        async def handler(chat: NeutralContext) -> None:
            seen.append(chat.text)

        async with running(driver, handler, sessions, lazy=not driver.asks_by_name, wants=[]):
            await feed(driver, Incoming("a"), Incoming("b"))
            assert seen == ["a", "b"]
            assert storage.calls == {}

    async def test_a_lazy_session_that_is_not_used_costs_no_storage_call(self, driver: FrameworkDriver) -> None:
        storage = CountingStorage()
        sessions = SessionManager(Pizza, storage=storage)
        counting = count_up(sessions)

        async def handler(chat: NeutralContext) -> None:
            if chat.text == "🍕":
                await counting(chat)

        async with running(driver, handler, sessions, lazy=True):
            await feed(driver, Incoming("a"), Incoming("b"))
            assert storage.calls == {}
            await feed(driver, Incoming())
            assert storage.calls["put"] == 1

    async def test_what_did_not_change_is_not_written(self, driver: FrameworkDriver) -> None:
        storage = CountingStorage()
        sessions = SessionManager(Pizza, storage=storage)

        async def handler(chat: NeutralContext) -> None:
            (await chat.of(sessions).get()).count = 1

        async with running(driver, handler, sessions):
            await feed(driver, Incoming(), Incoming(), Incoming())
            assert storage.calls["put"] == 1

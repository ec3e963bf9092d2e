"""How updates end: by success, failure, control flow, cancellation, or shutdown."""

from __future__ import annotations

import asyncio

import pytest

from chatsession.errors import SessionClosedError
from chatsession.manager import SessionManager
from chatsession.testing.integration_suite.driver import FrameworkDriver, MakeDriver, NeutralContext
from chatsession.testing.integration_suite.incoming import Incoming
from chatsession.testing.integration_suite.suite import (
    PATIENCE,
    BurntError,
    IntegrationSuite,
    Pizza,
    Where,
    count_up,
    feed,
    running,
    stored,
    take_error,
    until,
)


class EndingTests(IntegrationSuite):
    """Failing handlers, tasks left running, release, expiry, and the end of the bot itself."""

    @pytest.mark.parametrize("lazy", [False, True])
    async def test_a_failing_handler_stores_nothing(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza], lazy: bool
    ) -> None:
        async with running(driver, count_up(sessions), sessions, lazy=lazy):
            await feed(driver, Incoming("burn"))
            take_error(driver, BurntError)
            assert await sessions.get(7) is None
            await feed(driver, Incoming("a"), Incoming("burn"))
            take_error(driver, BurntError)
            assert await sessions.get(7) == Pizza(1, ["a"])
            await feed(driver, Incoming("b"))
            assert await sessions.get(7) == Pizza(2, ["a", "b"])

    async def test_control_flow_is_no_failure(self, make_driver: MakeDriver, storage: Where) -> None:
        for number, (name, control_flow) in enumerate(make_driver().control_flow.items()):
            driver, sessions = make_driver(), SessionManager(Pizza, storage=storage)

            async def handler(chat: NeutralContext) -> None:
                (await chat.of(sessions).get()).count += 1  # noqa: B023 - used while it is this one
                raise control_flow()  # noqa: B023

            async with running(driver, handler, sessions):
                await feed(driver, Incoming(chat_id=number + 1))
                assert await sessions.get(number + 1) == Pizza(1), name

    async def test_what_was_saved_stays_though_the_handler_fails(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        async def handler(chat: NeutralContext) -> None:
            session = chat.of(sessions)
            pizza = await session.get()
            pizza.count += 1
            await session.save()
            pizza.count += 1
            raise BurntError

        async with running(driver, handler, sessions):
            await feed(driver, Incoming())
            take_error(driver, BurntError)
            assert await sessions.get(7) == Pizza(1)

    async def test_a_released_session_lets_the_next_update_in(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        other = asyncio.Event()

        async def handler(chat: NeutralContext) -> None:
            session = chat.of(sessions)
            (await session.get()).count += 1
            if chat.text == "tell me":
                await session.release()
                await other.wait()
                assert (await session.get()).count == 1
            else:
                other.set()

        async with running(driver, handler, sessions), asyncio.timeout(PATIENCE):
            await asyncio.gather(driver.feed(Incoming("tell me")), driver.feed(Incoming("hm?")))
            assert await sessions.get(7) == Pizza(2)

    async def test_after_the_update_the_session_is_closed(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        left: list[NeutralContext] = []

        async def handler(chat: NeutralContext) -> None:
            await chat.of(sessions).get()
            left.append(chat)

        async with running(driver, handler, sessions):
            await feed(driver, Incoming())
            with pytest.raises(SessionClosedError):
                await left[0].of(sessions).get()
            with pytest.raises(SessionClosedError):
                left[0].of(sessions).assign(Pizza(9))

    @pytest.mark.parametrize("lazy", [False, True])
    async def test_shut_down_in_the_middle_of_a_handler(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza], storage: Where, lazy: bool
    ) -> None:
        """Updates that already wait for their chat are handled too."""
        busy, go_on = asyncio.Event(), asyncio.Event()
        counting = count_up(sessions)

        async def handler(chat: NeutralContext) -> None:
            await counting(chat)
            busy.set()
            await go_on.wait()

        async with asyncio.timeout(PATIENCE):
            async with running(driver, handler, sessions, lazy=lazy):
                updates = [asyncio.create_task(driver.feed(Incoming(text))) for text in "abc"]
                await busy.wait()
                # Frameworks may run filters in threads, so that no number of turns of the loop is enough.
                await until(lambda: sessions.runtime.active == 3, "the others come as far as their chat")
                stopping = asyncio.create_task(driver.stop())
                for _ in range(100):
                    await asyncio.sleep(0)
                assert not stopping.done(), "the bot has stopped though a handler runs"
                go_on.set()
                await asyncio.gather(stopping, *updates)
        assert await stored(storage, 7, Pizza) == Pizza(3, ["a", "b", "c"])

    async def test_stopped_and_started_again(self, make_driver: MakeDriver, storage: Where) -> None:
        for _ in range(3):
            sessions = SessionManager(Pizza, storage=storage)
            async with running(make_driver(), count_up(sessions), sessions) as driver:
                await feed(driver, Incoming("a"))
        assert await stored(storage, 7, Pizza) == Pizza(3, ["a"] * 3)

    async def test_a_cancelled_update_stores_nothing_and_lets_the_next_one_in(
        self, driver: FrameworkDriver, sessions: SessionManager[Pizza]
    ) -> None:
        running_handlers: list[asyncio.Task[object] | None] = []
        counting = count_up(sessions)

        async def handler(chat: NeutralContext) -> None:
            await counting(chat)
            if chat.text == "hang":
                running_handlers.append(asyncio.current_task())
                await asyncio.Event().wait()

        async with running(driver, handler, sessions), asyncio.timeout(PATIENCE):
            hanging = asyncio.create_task(driver.feed(Incoming("hang")))
            await until(lambda: bool(running_handlers), "the handler runs")
            waiting = asyncio.create_task(driver.feed(Incoming("a")))
            await asyncio.sleep(0)
            assert running_handlers[0] is not None
            running_handlers[0].cancel()
            await asyncio.gather(hanging, return_exceptions=True)
            await waiting
            driver.errors.clear()  # frameworks may tell of the cancellation, or not
            assert await sessions.get(7) == Pizza(1, ["a"])

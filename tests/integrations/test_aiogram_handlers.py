"""aiogram's handlers get the session that they name, and those that name none cost nothing."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from aiogram import Dispatcher, Router
from aiogram.dispatcher.event.bases import UNHANDLED, SkipHandler
from aiogram.handlers import MessageHandler
from aiogram.types import InlineQuery, Message, Update
from aiogram_aids import BEN, BOT, CountingStorage, Pizza, inline_query, message

from chatsession import SessionClosedError, SessionKeyError, SessionManager
from chatsession.integrations.aiogram import LazySessionContext, SessionContext, setup_sessions


async def test_a_handler_that_names_session_gets_the_data(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> int:
        session.count += 1
        return session.count

    assert [await dp.feed_raw_update(BOT, message()) for _ in range(3)] == [1, 2, 3]
    assert await dp.feed_raw_update(BOT, message(user=BEN)) == 1
    assert await sessions.get(1) == Pizza(3)


async def test_a_handler_that_names_ctx_assigns_and_deletes(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message(lambda message: message.text == "/reset")
    async def on_reset(message: Message, ctx: SessionContext[Pizza]) -> None:
        ctx.session = None

    @dp.message()
    async def on_other(message: Message, ctx: SessionContext[Pizza]) -> None:
        ctx.session.count += 1
        ctx.session = Pizza(ctx.session.count, ["cheese"])

    await dp.feed_raw_update(BOT, message())
    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(2, ["cheese"])
    await dp.feed_raw_update(BOT, message("/reset"))
    assert await sessions.get(1) is None


async def test_a_handler_may_name_both(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        assert ctx.session is session
        session.count += 1

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


async def test_a_handler_may_call_its_event_ctx(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message(lambda message: message.text == "hi")
    async def on_hi(ctx: Message) -> str | None:
        return ctx.text

    @dp.message(lambda message: message.text == "all")
    async def on_all(ctx: Message, **data: Any) -> bool:
        return "ctx" in data

    @dp.message()
    async def on_pizza(ctx: Message, session: Pizza) -> None:
        session.toppings.append(ctx.text or "")

    assert await dp.feed_raw_update(BOT, message("hi")) == "hi"
    assert await dp.feed_raw_update(BOT, message("all")) is False
    assert await sessions.get(1) is None
    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(0, ["🍕"])


async def test_one_trip_to_load_and_one_to_store(dp: Dispatcher, storage: CountingStorage) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        session.count += 1

    await dp.feed_raw_update(BOT, message())
    assert storage.calls == {"lock": 1, "put": 1}


async def test_an_update_that_nobody_handles_costs_nothing(dp: Dispatcher, storage: CountingStorage) -> None:
    @dp.message(lambda message: False)
    async def on_pizza(message: Message, session: Pizza) -> None: ...

    assert await dp.feed_raw_update(BOT, message()) is UNHANDLED
    assert storage.calls == {}


async def test_a_handler_that_names_neither_costs_nothing(dp: Dispatcher, storage: CountingStorage) -> None:
    @dp.message()
    async def on_pizza(message: Message) -> str:
        return "handled"

    assert await dp.feed_raw_update(BOT, message()) == "handled"
    assert storage.calls == {}


async def test_a_handler_with_kwargs_loads_if_it_wants_to(dp: Dispatcher, storage: CountingStorage) -> None:
    given: set[str] = set()

    @dp.message()
    async def on_anything(message: Message, **data: Any) -> None:
        given.update(data)
        if message.text == "load":
            (await data["ctx"].load_session()).count += 1

    await dp.feed_raw_update(BOT, message())
    assert storage.calls == {}
    await dp.feed_raw_update(BOT, message("load"))
    assert storage.calls == {"lock": 1, "put": 1}
    assert "session" not in given


async def test_a_handler_with_kwargs_gets_the_context_and_nothing_else_of_ours(dp: Dispatcher) -> None:
    bare, given = Dispatcher(), list[set[str]]()

    async def on_any(message: Message, **kwargs: Any) -> None:
        given.append(set(kwargs))

    for each in (dp, bare):
        each.message.register(on_any)
        await each.feed_raw_update(BOT, message())
    assert given[0] - given[1] == {"ctx"}


async def test_a_handler_feeds_another_dispatcher_and_goes_on(
    dp: Dispatcher, sessions: SessionManager[Pizza], storage: CountingStorage
) -> None:
    other, carts = Dispatcher(), SessionManager(Pizza, storage=storage, prefix="cart:")
    setup_sessions(other, carts)

    @other.message()
    async def on_cart(message: Message, session: Pizza) -> None:
        session.count += 10

    @dp.message()
    async def on_pizza(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        await other.feed_update(BOT, Update(update_id=1, message=message))
        session.count += 1
        raise SkipHandler

    @dp.message()
    async def on_next(message: Message, session: Pizza) -> None:
        session.count += 1

    await dp.feed_raw_update(BOT, message())
    assert (await sessions.get(1), await carts.get(1)) == (Pizza(2), Pizza(10))


async def test_ctx_that_is_not_touched_stores_nothing(dp: Dispatcher, storage: CountingStorage) -> None:
    @dp.message()
    async def on_pizza(message: Message, ctx: SessionContext[Pizza]) -> None: ...

    await dp.feed_raw_update(BOT, message())
    assert storage.calls == {"lock": 1, "keep": 1}


async def test_what_has_not_changed_is_not_written(dp: Dispatcher, storage: CountingStorage) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None: ...

    await dp.feed_raw_update(BOT, message())
    await dp.feed_raw_update(BOT, message())
    assert storage.calls["put"] == 1


async def test_a_class_based_handler_loads_by_its_context(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message()
    class OnPizza(MessageHandler):
        async def handle(self) -> None:
            ctx: SessionContext[Pizza] = self.data["ctx"]
            (await ctx.load_session()).count += 1
            ctx.session.toppings.append("cheese")

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1, ["cheese"])


async def test_a_sync_handler_runs_in_its_thread(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message()
    def on_pizza(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        assert threading.current_thread() is not threading.main_thread()
        ctx.session = Pizza(session.count + 1)

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


async def test_a_handler_that_only_wraps_another_gets_what_that_one_names(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    from functools import wraps

    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    @dp.message()
    @wraps(on_pizza)
    async def logged(*args: Any, **kwargs: Any) -> None:
        await on_pizza(*args, **kwargs)

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


async def test_save_session_commits_at_once(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        session.count = 1
        await ctx.save_session()
        assert await sessions.get(1) == Pizza(1)
        session.count = 2

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(2)


async def test_what_was_saved_survives_a_later_failure(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        session.count = 1
        await ctx.save_session()
        session.count = 2
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


async def test_after_release_session_the_chats_next_update_runs(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    released, second_done = asyncio.Event(), asyncio.Event()

    @dp.message(lambda message: message.text == "long")
    async def on_long(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        session.count += 1
        await ctx.release_session()
        released.set()
        await second_done.wait()
        assert session.count == 1
        with pytest.raises(SessionClosedError, match="released"):
            ctx.session = Pizza()

    @dp.message()
    async def on_short(message: Message, session: Pizza) -> None:
        session.count += 1

    long = asyncio.create_task(dp.feed_raw_update(BOT, message("long")))
    await released.wait()
    await dp.feed_raw_update(BOT, message())
    second_done.set()
    await long
    assert await sessions.get(1) == Pizza(2)


async def test_a_change_after_release_session_is_an_error(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        await ctx.release_session()
        session.count = 7

    with pytest.raises(SessionClosedError, match="changed after it was released"):
        await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza()


async def test_what_runs_on_after_the_update_cannot_lose_a_change(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    done = asyncio.Event()
    left_running: list[asyncio.Task[None]] = []

    @dp.message()
    async def on_pizza(message: Message, ctx: SessionContext[Pizza]) -> None:
        async def later() -> None:
            await done.wait()
            for use in (lambda: ctx.session.count, lambda: setattr(ctx, "session", Pizza())):
                with pytest.raises(SessionClosedError):
                    use()
            for use_async in (ctx.load_session, ctx.save_session, ctx.release_session):
                with pytest.raises(SessionClosedError):
                    await use_async()

        left_running.append(asyncio.create_task(later()))

    await dp.feed_raw_update(BOT, message())
    done.set()
    await left_running[0]
    assert await sessions.get(1) is None


async def test_use_after_the_end_of_an_update_whose_session_nobody_opened(dp: Dispatcher) -> None:
    kept: list[SessionContext[Pizza]] = []

    @dp.message()
    async def on_pizza(message: Message, **data: Any) -> None:
        kept.append(data["ctx"])

    await dp.feed_raw_update(BOT, message())
    with pytest.raises(SessionClosedError, match=r"use sessions\.open\(\)"):
        _ = kept[0].session
    with pytest.raises(SessionClosedError, match=r"use sessions\.open\(\)"):
        await kept[0].load_session()


async def test_an_update_without_a_chat_runs_handlers_that_do_not_touch_the_session(
    dp: Dispatcher, storage: CountingStorage
) -> None:
    @dp.inline_query()
    async def on_inline(query: InlineQuery, ctx: SessionContext[Pizza]) -> str:
        for use in (lambda: ctx.session, lambda: setattr(ctx, "session", Pizza())):
            with pytest.raises(SessionKeyError, match="this update has no chat"):
                use()
        with pytest.raises(SessionKeyError, match="this update has no chat"):
            await ctx.load_session()
        return "answered"

    assert await dp.feed_raw_update(BOT, inline_query()) == "answered"
    assert storage.calls == {}


async def test_a_handler_that_names_the_session_of_an_update_without_one(
    dp: Dispatcher, storage: CountingStorage
) -> None:
    @dp.inline_query()
    async def on_inline(query: InlineQuery, session: Pizza) -> None: ...

    with pytest.raises(SessionKeyError, match="this update has no chat"):
        await dp.feed_raw_update(BOT, inline_query())
    assert storage.calls == {}


async def test_a_key_function_of_ones_own_that_returns_none() -> None:
    dp = Dispatcher()
    setup_sessions(dp, SessionManager(Pizza, storage="memory:", get_session_key=lambda ctx: None))

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None: ...

    with pytest.raises(SessionKeyError, match="returned None"):
        await dp.feed_raw_update(BOT, message())


async def test_plain_values_change_by_ctx() -> None:
    dp, counters = Dispatcher(), SessionManager(int, storage="memory:")
    setup_sessions(dp, counters)

    @dp.message()
    async def count(message: Message, session: int, ctx: SessionContext[int]) -> int:
        ctx.session += 1
        return session

    assert [await dp.feed_raw_update(BOT, message()) for _ in range(3)] == [0, 1, 2]
    assert await counters.get(1) == 3


async def test_without_initial_the_session_is_none_at_first() -> None:
    dp, sessions = Dispatcher(), SessionManager(type=Pizza, storage="memory:")
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_pizza(message: Message, session: Pizza | None, ctx: SessionContext[Pizza | None]) -> Pizza | None:
        ctx.session = Pizza(5)
        return session

    assert [await dp.feed_raw_update(BOT, message()) for _ in range(2)] == [None, Pizza(5)]


async def test_a_session_is_not_confused_by_what_a_handler_returns(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> object:
        session.count += 1
        return UNHANDLED

    assert await dp.feed_raw_update(BOT, message()) is UNHANDLED
    assert await sessions.get(1) == Pizza(1)


@pytest.mark.parametrize("included", ["before", "after"])
async def test_routers_may_be_included_before_or_after(sessions: SessionManager[Pizza], included: str) -> None:
    dp, outer, inner = Dispatcher(), Router(), Router()
    outer.include_router(inner)
    if included == "before":
        dp.include_router(outer)
    setup_sessions(dp, sessions)
    if included == "after":
        dp.include_router(outer)

    @inner.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


def test_the_same_name_twice_is_refused(dp: Dispatcher) -> None:
    with pytest.raises(ValueError, match="the name 'session' are set up already"):
        setup_sessions(dp, SessionManager(int, storage="memory:"))


def test_a_router_is_refused(sessions: SessionManager[Pizza]) -> None:
    with pytest.raises(TypeError, match="needs the Dispatcher, not a Router"):
        setup_sessions(Router(), sessions)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [Pizza, Pizza(), SessionManager, "sqlite:///bot.db", None])
def test_something_else_than_a_manager_is_refused(given: object) -> None:
    with pytest.raises(TypeError, match="setup_sessions takes a SessionManager, as in"):
        setup_sessions(Dispatcher(), given)  # type: ignore[arg-type]


def test_an_option_that_is_neither_true_nor_false(sessions: SessionManager[Pizza]) -> None:
    with pytest.raises(TypeError, match="lazy takes True or False, not 'no'"):
        setup_sessions(Dispatcher(), sessions, lazy="no")  # type: ignore[arg-type]


class TestLazy:
    @pytest.fixture
    def dp(self, sessions: SessionManager[Pizza]) -> Dispatcher:
        dispatcher = Dispatcher()
        setup_sessions(dispatcher, sessions, lazy=True)
        return dispatcher

    async def test_nothing_is_read_until_somebody_asks(self, dp: Dispatcher, storage: CountingStorage) -> None:
        @dp.message()
        async def on_pizza(message: Message, session: Any, ctx: LazySessionContext[Pizza]) -> None:
            assert storage.calls == {}

        await dp.feed_raw_update(BOT, message())
        assert storage.calls == {}

    async def test_await_gives_the_same_object_each_time(
        self, dp: Dispatcher, sessions: SessionManager[Pizza], storage: CountingStorage
    ) -> None:
        @dp.message()
        async def on_pizza(message: Message, session: Any, ctx: LazySessionContext[Pizza]) -> None:
            pizza = await ctx.session
            assert await ctx.session is pizza
            assert await session is pizza
            assert await ctx.load_session() is pizza
            pizza.count += 1

        await dp.feed_raw_update(BOT, message())
        assert await sessions.get(1) == Pizza(1)
        assert storage.calls["lock"] == 1

    async def test_assign_an_awaitable_and_delete(self, dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
        async def baked() -> Pizza:
            return Pizza(9)

        @dp.message(lambda message: message.text == "/reset")
        async def on_reset(message: Message, ctx: LazySessionContext[Pizza]) -> None:
            ctx.session = None

        @dp.message()
        async def on_pizza(message: Message, ctx: LazySessionContext[Pizza]) -> None:
            ctx.session = baked()

        await dp.feed_raw_update(BOT, message())
        assert await sessions.get(1) == Pizza(9)
        await dp.feed_raw_update(BOT, message("/reset"))
        assert await sessions.get(1) is None

    async def test_save_and_release(self, dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
        @dp.message()
        async def on_pizza(message: Message, ctx: LazySessionContext[Pizza]) -> None:
            pizza = await ctx.session
            pizza.count = 1
            await ctx.save_session()
            assert await sessions.get(1) == Pizza(1)
            pizza.count = 2
            await ctx.release_session()
            async with sessions.open(1) as other:
                other.data.count += 1

        await dp.feed_raw_update(BOT, message())
        assert await sessions.get(1) == Pizza(3)

    async def test_a_failure_stores_nothing(self, dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
        @dp.message()
        async def on_pizza(message: Message, ctx: LazySessionContext[Pizza]) -> None:
            (await ctx.session).count += 1
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await dp.feed_raw_update(BOT, message())
        assert await sessions.get(1) is None

    async def test_an_update_without_a_chat(self, dp: Dispatcher) -> None:
        @dp.inline_query()
        async def on_inline(query: InlineQuery, ctx: LazySessionContext[Pizza]) -> str:
            with pytest.raises(SessionKeyError, match="this update has no chat"):
                await ctx.session
            return "answered"

        assert await dp.feed_raw_update(BOT, inline_query()) == "answered"

    async def test_use_after_the_end(self, dp: Dispatcher) -> None:
        kept: list[LazySessionContext[Pizza]] = []

        @dp.message()
        async def on_pizza(message: Message, ctx: LazySessionContext[Pizza]) -> None:
            kept.append(ctx)

        await dp.feed_raw_update(BOT, message())
        with pytest.raises(SessionClosedError):
            await kept[0].session
        with pytest.raises(SessionClosedError):
            kept[0].session = None

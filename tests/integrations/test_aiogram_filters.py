"""Filters and middlewares that load by `await ctx.load_session()` share the session with the handler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiogram import Dispatcher, Router
from aiogram.dispatcher.event.bases import UNHANDLED, SkipHandler
from aiogram.types import Message, TelegramObject
from aiogram_aids import BOT, CountingStorage, Pizza, message

from chatsession import SessionEncodeError, SessionError, SessionManager
from chatsession.integrations.aiogram import SessionContext, setup_sessions

Next = Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]]


async def hungry(message: Message, ctx: SessionContext[Pizza]) -> bool:
    """A filter that looks and changes."""
    pizza = await ctx.load_session()
    pizza.toppings.append("seen by filter")
    return pizza.count < 2


async def through(handler: Next, event: TelegramObject, data: dict[str, Any]) -> Any:
    """A middleware that changes the session before and after."""
    ctx: SessionContext[Pizza] = data["ctx"]
    pizza = await ctx.load_session()
    pizza.toppings.append("before")
    result = await handler(event, data)
    assert ctx.session is pizza
    pizza.toppings.append("after")
    return result


async def test_a_filter_and_the_handler_share_one_session(
    dp: Dispatcher, sessions: SessionManager[Pizza], storage: CountingStorage
) -> None:
    @dp.message(hungry)
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1, ["seen by filter"])
    assert storage.calls["lock"] == storage.calls["put"] == 1


async def test_a_filter_shares_it_with_a_handler_that_names_nothing(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    @dp.message(hungry)
    async def on_pizza(message: Message) -> None: ...

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(0, ["seen by filter"])


async def test_what_a_filter_looked_at_is_not_stored_when_nobody_handles(
    dp: Dispatcher, sessions: SessionManager[Pizza], storage: CountingStorage
) -> None:
    async def big_eater(message: Message, ctx: SessionContext[Pizza]) -> bool:
        return (await ctx.load_session()).count > 100

    @dp.message(big_eater)
    async def on_pizza(message: Message) -> None: ...

    assert await dp.feed_raw_update(BOT, message()) is UNHANDLED
    assert storage.calls == {"lock": 1, "keep": 1}
    assert await sessions.get(1) is None


@pytest.mark.parametrize("lazy", [False, True])
async def test_what_a_filter_or_middleware_changed_is_stored_also_when_nobody_handles(
    sessions: SessionManager[Pizza], lazy: bool
) -> None:
    dp = Dispatcher()
    setup_sessions(dp, sessions, lazy=lazy)

    @dp.message.outer_middleware()
    async def count(handler: Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        (await data["ctx"].load_session()).count += 1
        return await handler(event, data)

    for _ in range(3):
        assert await dp.feed_raw_update(BOT, message()) is UNHANDLED
    assert await sessions.get(1) == Pizza(3)


@pytest.mark.parametrize("control_flow", ["skip", "unhandled"])
async def test_a_filter_that_looks_after_a_handler_takes_nothing_from_it(
    dp: Dispatcher, sessions: SessionManager[Pizza], control_flow: str
) -> None:
    @dp.message()
    async def first(message: Message, session: Pizza) -> object:
        session.count += 1
        if control_flow == "skip":
            raise SkipHandler
        return UNHANDLED

    async def big_eater(message: Message, ctx: SessionContext[Pizza]) -> bool:
        return (await ctx.load_session()).count > 100

    router = Router()
    dp.include_router(router)

    @router.message(big_eater)
    async def second(message: Message) -> None: ...

    assert await dp.feed_raw_update(BOT, message()) is UNHANDLED
    assert await sessions.get(1) == Pizza(1)


async def test_what_a_filter_assigned_is_stored_also_when_nobody_handles(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    async def renew(message: Message, ctx: SessionContext[Pizza]) -> bool:
        await ctx.load_session()
        ctx.session = Pizza()
        return False

    @dp.message(renew)
    async def on_pizza(message: Message) -> None: ...

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza()


async def test_what_cannot_be_stored_is_told_also_when_nobody_handles(dp: Dispatcher) -> None:
    async def poison(message: Message, ctx: SessionContext[Pizza]) -> bool:
        (await ctx.load_session()).toppings.append(object())  # type: ignore[arg-type]
        return False

    @dp.message(poison)
    async def on_pizza(message: Message) -> None: ...

    with pytest.raises(SessionEncodeError):
        await dp.feed_raw_update(BOT, message())


@pytest.mark.parametrize("place", ["update", "message", "router"])
@pytest.mark.parametrize("kind", ["outer_middleware", "middleware"])
async def test_a_middleware_and_the_handler_share_one_session(
    dp: Dispatcher, sessions: SessionManager[Pizza], storage: CountingStorage, place: str, kind: str
) -> None:
    router = Router()
    dp.include_router(router)
    observer = {"update": dp.update, "message": dp.message, "router": router.message}[place]
    getattr(observer, kind)(through)

    @router.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count = len(session.toppings)

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1, ["before", "after"])
    assert storage.calls["lock"] == storage.calls["put"] == 1


async def test_an_inner_middleware_of_before_the_setup_shares_it_too(sessions: SessionManager[Pizza]) -> None:
    dp = Dispatcher()
    dp.message.middleware(through)
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count = len(session.toppings)

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1, ["before", "after"])


async def test_a_middleware_that_keeps_an_update_to_itself_commits(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    @dp.message.outer_middleware()
    async def throttle(handler: Next, event: TelegramObject, data: dict[str, Any]) -> None:
        (await data["ctx"].load_session()).toppings.append("throttled")

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(0, ["throttled"])


async def test_a_middleware_that_fails_stores_nothing(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message.outer_middleware()
    async def bad(handler: Next, event: TelegramObject, data: dict[str, Any]) -> None:
        await handler(event, data)
        raise RuntimeError

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    with pytest.raises(RuntimeError):
        await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) is None


async def test_a_filter_that_fails_stores_nothing_and_lets_go(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    async def bad(message: Message, ctx: SessionContext[Pizza]) -> bool:
        (await ctx.load_session()).count += 1
        raise RuntimeError

    @dp.message(bad)
    async def on_pizza(message: Message, session: Pizza) -> None: ...

    for _ in range(2):
        with pytest.raises(RuntimeError):
            await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) is None


async def test_a_filter_that_forgets_to_load_is_told(dp: Dispatcher) -> None:
    async def forgetful(message: Message, ctx: SessionContext[Pizza]) -> bool:
        return ctx.session.count > 0

    @dp.message(forgetful)
    async def on_pizza(message: Message) -> None: ...

    with pytest.raises(SessionError, match=r"await ctx\.load_session\(\) before you use ctx\.session"):
        await dp.feed_raw_update(BOT, message())


async def test_a_filter_of_a_lazy_session(sessions: SessionManager[Pizza], storage: CountingStorage) -> None:
    dp = Dispatcher()
    setup_sessions(dp, sessions, lazy=True)

    @dp.message(hungry)
    async def on_pizza(message: Message, session: Awaitable[Pizza]) -> None:
        (await session).count += 1

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1, ["seen by filter"])
    assert storage.calls["lock"] == 1


@pytest.mark.parametrize("lazy", [False, True])
async def test_two_that_load_at_the_same_time_get_the_same_session(
    sessions: SessionManager[Pizza], storage: CountingStorage, lazy: bool
) -> None:
    dp = Dispatcher()
    setup_sessions(dp, sessions, lazy=lazy)

    @dp.message()
    async def on_pizza(message: Message, **data: Any) -> None:
        one, other = await asyncio.gather(data["ctx"].load_session(), data["ctx"].load_session())
        assert one is other
        one.count += 1

    await asyncio.wait_for(dp.feed_raw_update(BOT, message()), 120)
    assert await sessions.get(1) == Pizza(1)
    assert storage.calls["lock"] == 1


@pytest.mark.parametrize("failing", [False, True])
async def test_a_load_that_is_under_way_when_the_update_ends_leaves_no_lock(
    dp: Dispatcher, sessions: SessionManager[Pizza], failing: bool
) -> None:
    loading: list[asyncio.Task[Pizza]] = []

    @dp.message(lambda message: message.text == "careless")
    async def careless(message: Message, **data: Any) -> None:
        loading.append(asyncio.create_task(data["ctx"].load_session()))
        await asyncio.sleep(0)  # it waits for the chat now
        if failing:
            raise RuntimeError

    async with sessions.open(1):
        result = await asyncio.gather(dp.feed_raw_update(BOT, message("careless")), return_exceptions=True)
        assert isinstance(result[0], RuntimeError) == failing
    with pytest.raises(SessionError, match="after its update was done"):
        await loading[0]
    async with asyncio.timeout(120), sessions.open(1) as s:
        assert not s.exists


async def test_a_key_that_is_under_way_when_the_update_ends(storage: CountingStorage) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow_key(ctx: Any) -> int:
        asked.set()
        await answer.wait()
        return 1

    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=storage, get_session_key=slow_key)
    setup_sessions(dp, sessions, lazy=True)
    loading: list[asyncio.Task[Pizza]] = []

    @dp.message()
    async def careless(message: Message, **data: Any) -> None:
        loading.append(asyncio.create_task(data["ctx"].load_session()))
        await asked.wait()

    await dp.feed_raw_update(BOT, message())
    answer.set()
    with pytest.raises(SessionError, match="after its update was done"):
        await loading[0]
    assert storage.calls == {}

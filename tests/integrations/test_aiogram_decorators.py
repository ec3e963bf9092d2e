"""Handlers behind a decorator that does without `functools.wraps` get the session that they name."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import pytest
from aiogram import Dispatcher
from aiogram.filters import Command
from aiogram.fsm.scene import Scene, SceneRegistry, on
from aiogram.handlers import MessageHandler
from aiogram.types import Message
from aiogram_aids import BOT, CountingStorage, Pizza, inline_query, message

from chatsession import SessionKeyError, SessionManager
from chatsession.integrations.aiogram import SessionContext, setup_sessions

Handler = Callable[..., Awaitable[Any]]


def fitting(handler: Handler, data: dict[str, Any]) -> dict[str, Any]:
    """What a decorator passes on, since aiogram gives it everything."""
    return {name: value for name, value in data.items() if name in inspect.signature(handler).parameters}


def by_function(handler: Handler) -> Handler:
    async def wrapper(event: Any, **data: Any) -> Any:
        return await handler(event, **fitting(handler, data))

    return wrapper


def by_all_arguments(handler: Handler) -> Handler:
    async def wrapper(*args: Any, **data: Any) -> Any:
        return await handler(*args, **fitting(handler, data))

    return wrapper


def by_subscript(handler: Handler) -> Handler:
    async def wrapper(event: Any, **data: Any) -> Any:
        return await handler(event, data["session"])

    return wrapper


class ByObject:
    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def run(self, event: Any, **data: Any) -> Any:
        return await self.handler(event, **fitting(self.handler, data))


def by_method(handler: Handler) -> Handler:
    return ByObject(handler).run


@attrs.define
class BySlots:
    handler: Handler

    async def run(self, event: Any, **data: Any) -> Any:
        return await self.handler(event, **fitting(self.handler, data))


def by_slots(handler: Handler) -> Handler:
    return BySlots(handler).run


def by_partial(handler: Handler) -> Handler:
    async def wrapper(inner: Handler, event: Any, **data: Any) -> Any:
        return await inner(event, **fitting(inner, data))

    return partial(wrapper, handler)


DECORATORS = [by_function, by_all_arguments, by_subscript, by_method, by_slots, by_partial]


@pytest.mark.parametrize("decorator", DECORATORS)
async def test_a_decorated_handler_gets_its_session(
    dp: Dispatcher, sessions: SessionManager[Pizza], storage: CountingStorage, decorator: Callable[[Handler], Handler]
) -> None:
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    dp.message.register(decorator(on_pizza))
    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)
    assert storage.calls["lock"] == 1


async def by_key(message: Message, **data: Any) -> None:
    data["session"].count += 1


async def by_get(message: Message, **data: Any) -> None:
    data.get("session", Pizza()).count += 1


async def by_a_global(message: Message, **data: Any) -> None:
    data[NAME].count += 1


async def by_a_function_inside(message: Message, **data: Any) -> None:
    def count() -> None:
        data["session"].count += 1

    count()


async def by_passing_on(message: Message, **data: Any) -> None:
    await serve(message, **data)


async def serve(message: Message, session: Pizza, **_: Any) -> None:
    session.count += 1


class ByClass(MessageHandler):
    @property
    def pizza(self) -> Pizza:
        return self.data["session"]

    async def handle(self) -> None:
        self.pizza.count += 1


NAME = "session"
MENTIONING = [by_key, by_get, by_a_global, by_a_function_inside, by_passing_on, ByClass]


@pytest.mark.parametrize("handler", MENTIONING)
async def test_a_handler_with_kwargs_that_mentions_it_gets_it(
    dp: Dispatcher, sessions: SessionManager[Pizza], handler: Handler
) -> None:
    dp.message.register(handler)
    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


async def test_a_handler_behind_two_decorators(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    async def on_pizza(message: Message, session: Pizza, **data: Any) -> None:
        session.count += 1

    async def outer(message: Message, **data: Any) -> None:
        await inner(message, **data)

    inner = by_all_arguments(on_pizza)
    dp.message.register(outer)
    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


async def test_a_decorated_handler_that_names_ctx(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message()
    @by_function
    async def on_pizza(message: Message, ctx: SessionContext[Pizza]) -> None:
        ctx.session.count += 1

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


async def test_a_decorated_handler_of_a_lazy_session(sessions: SessionManager[Pizza], storage: CountingStorage) -> None:
    dp = Dispatcher()
    setup_sessions(dp, sessions, lazy=True)

    @dp.message()
    @by_function
    async def on_pizza(message: Message, session: Awaitable[Pizza]) -> None:
        if message.text == "🍕":
            (await session).count += 1

    await dp.feed_raw_update(BOT, message("other"))
    assert storage.calls == {}
    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


async def test_a_decorated_handler_that_names_neither_costs_nothing(dp: Dispatcher, storage: CountingStorage) -> None:
    @dp.message()
    @by_all_arguments
    async def on_help(message: Message) -> str:
        return "help"

    assert await dp.feed_raw_update(BOT, message()) == "help"
    assert storage.calls == {}


async def test_a_decorated_handler_of_an_update_without_a_chat(dp: Dispatcher) -> None:
    @dp.inline_query()
    @by_function
    async def on_inline(query: object, session: Pizza) -> None: ...

    with pytest.raises(SessionKeyError, match="this update has no chat"):
        await dp.feed_raw_update(BOT, inline_query())


async def test_a_decorated_handler_of_a_scene(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    def logged(handler: Handler) -> Handler:
        async def wrapper(scene: Any, event: Any, **data: Any) -> Any:
            return await handler(scene, event, **fitting(handler, data))

        return wrapper

    class Menu(Scene, state="menu"):
        @on.message.enter()
        @logged
        async def on_enter(self, message: Message, session: Pizza) -> None:
            session.toppings.append("entered")

        @on.message()
        @logged
        async def take(self, message: Message, session: Pizza) -> None:
            session.count += 1

    SceneRegistry(dp).add(Menu)
    dp.message.register(Menu.as_handler(), Command("menu"))
    for text in ("/menu", "take"):
        await dp.feed_raw_update(BOT, message(text))
    assert await sessions.get(1) == Pizza(1, ["entered"])

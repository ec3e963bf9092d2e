"""Somebody else gives aiogram's handlers something under the name of the session: an error, never a silent swap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from aiogram import Dispatcher, Router
from aiogram.dispatcher.event.bases import UNHANDLED
from aiogram.types import ErrorEvent, Message, TelegramObject
from aiogram_aids import BOT, CountingStorage, Pizza, message

from chatsession import SessionManager
from chatsession.errors import SessionNameError
from chatsession.integrations.aiogram import SessionContext, setup_sessions

Next = Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]]
Arrange = Callable[[Dispatcher, Router], None]


class DatabaseSession:
    """What projects with SQLAlchemy inject as `session`."""


async def inject(handler: Next, event: TelegramObject, data: dict[str, Any], *, name: str = "session") -> Any:
    data[name] = DatabaseSession()
    return await handler(event, data)


def outer(observer: str) -> Arrange:
    return lambda dp, router: dp.observers[observer].outer_middleware.register(inject) and None


def inner(observer: str) -> Arrange:
    return lambda dp, router: dp.observers[observer].middleware.register(inject) and None


def filtered(dp: Dispatcher, router: Router) -> None:
    router.message.filter(lambda message: {"session": DatabaseSession()})


ARRANGEMENTS: dict[str, Arrange] = {
    "workflow data": lambda dp, router: dp.workflow_data.update(session=DatabaseSession()),
    "outer middleware of updates": outer("update"),
    "outer middleware of messages": outer("message"),
    "inner middleware of updates": inner("update"),
    "inner middleware of messages": inner("message"),
    "outer middleware of a router": lambda dp, router: router.message.outer_middleware.register(inject) and None,
    "inner middleware of a router": lambda dp, router: router.message.middleware.register(inject) and None,
    "filter": filtered,
}
TOLD = r"'session'.*DatabaseSession.*chatsession.*name='state_'"


@pytest.mark.parametrize("first", ["sessions", "the other"])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
async def test_a_second_session_is_an_error_whoever_came_first(
    sessions: SessionManager[Pizza], storage: CountingStorage, arrangement: str, first: str
) -> None:
    dp, router = Dispatcher(), Router()
    dp.include_router(router)
    arrange = ARRANGEMENTS[arrangement]

    @router.message()
    async def on_pizza(message: Message, session: Any) -> None:
        pytest.fail("the handler got one of the two")

    if first == "the other":
        arrange(dp, router)
    with pytest.raises(SessionNameError, match=TOLD):
        setup_sessions(dp, sessions)
        if first == "sessions":
            arrange(dp, router)
        await dp.feed_raw_update(BOT, message())
    assert storage.calls == {}


async def test_the_keywords_of_a_fed_update(dp: Dispatcher, storage: CountingStorage) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Any) -> None: ...

    with pytest.raises(SessionNameError, match=TOLD):
        await dp.feed_raw_update(BOT, message(), session=DatabaseSession())
    assert storage.calls == {}


def test_the_dispatchers_own_data_is_told_at_the_setup(sessions: SessionManager[Pizza]) -> None:
    with pytest.raises(SessionNameError, match=TOLD):
        setup_sessions(Dispatcher(session=DatabaseSession()), sessions)


async def test_what_comes_after_the_setup_is_told_at_startup(dp: Dispatcher) -> None:
    dp["session"] = DatabaseSession()
    with pytest.raises(SessionNameError, match=TOLD):
        await dp.start_polling(BOT, handle_signals=False)


async def test_the_keywords_of_polling_are_told_at_startup(dp: Dispatcher) -> None:
    with pytest.raises(SessionNameError, match=TOLD):
        await dp.start_polling(BOT, handle_signals=False, session=DatabaseSession())


async def test_the_name_of_the_context_is_taken_too(dp: Dispatcher) -> None:
    dp.message.middleware(partial(inject, name="ctx"))

    @dp.message()
    async def on_pizza(message: Message, ctx: Any) -> None: ...

    with pytest.raises(SessionNameError, match=r"'ctx'.*DatabaseSession.*name='state_'"):
        await dp.feed_raw_update(BOT, message())


async def test_a_handler_that_names_neither_is_told_too(dp: Dispatcher) -> None:
    """The first update tells, not the first one of a handler that is seldom used."""
    dp.message.middleware(inject)

    @dp.message()
    async def on_help(message: Message) -> None: ...

    with pytest.raises(SessionNameError, match=TOLD):
        await dp.feed_raw_update(BOT, message())


async def test_an_error_handler_can_report_it(dp: Dispatcher) -> None:
    dp.update.outer_middleware(inject)

    @dp.message()
    async def on_pizza(message: Message, session: Any) -> None: ...

    @dp.errors()
    async def on_error(event: ErrorEvent) -> str:
        return type(event.exception).__name__

    assert await dp.feed_raw_update(BOT, message()) == "SessionNameError"


async def test_an_error_handler_never_gets_the_other_one(dp: Dispatcher) -> None:
    dp.update.outer_middleware(inject)

    @dp.message()
    async def on_pizza(message: Message) -> None: ...

    @dp.errors()
    async def on_error(event: ErrorEvent, session: Any) -> None:
        pytest.fail("it got one of the two")

    with pytest.raises(SessionNameError, match=TOLD):
        await dp.feed_raw_update(BOT, message())


async def test_a_value_that_is_bound_to_the_handler(dp: Dispatcher, storage: CountingStorage) -> None:
    async def on_pizza(message: Message, session: Any) -> None: ...

    dp.message.register(partial(on_pizza, session=DatabaseSession()))
    with pytest.raises(SessionNameError, match=TOLD):
        await dp.feed_raw_update(BOT, message())
    assert storage.calls == {}


async def test_the_proposed_name_is_free(sessions: SessionManager[Pizza]) -> None:
    dp = Dispatcher(session=DatabaseSession(), state_=1)
    with pytest.raises(SessionNameError, match="name='chat_state'"):
        setup_sessions(dp, sessions)


async def test_both_side_by_side_under_the_proposed_name(storage: CountingStorage) -> None:
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=storage, name="state_")
    dp.update.outer_middleware(inject)
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_pizza(message: Message, session: DatabaseSession, state_: Pizza) -> None:
        assert isinstance(session, DatabaseSession)
        state_.count += 1

    @dp.edited_message()
    async def on_edit(message: Message, state__ctx: SessionContext[Pizza]) -> None: ...

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


async def test_an_update_that_nobody_handles_is_left_alone(dp: Dispatcher) -> None:
    dp.message.middleware(inject)
    assert await dp.feed_raw_update(BOT, message()) is UNHANDLED

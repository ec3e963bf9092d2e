"""telebot's handlers get the sessions that they name, beside what telebot itself gives them."""

from __future__ import annotations

import asyncio
import functools
import logging
from functools import partial
from typing import Any

import pytest
from aiogram_aids import CountingStorage, Pizza, group, inline_query, message
from telebot import TeleBot
from telebot.async_telebot import AsyncTeleBot
from telebot.asyncio_handler_backends import BaseMiddleware, CancelUpdate, ContinueHandling, SkipHandler
from telebot.asyncio_storage import StateMemoryStorage
from telebot.states import State, StatesGroup
from telebot.states.asyncio.context import StateContext
from telebot.states.asyncio.middleware import StateMiddleware
from telebot.types import Message
from telebot_aids import QuietBot, feed, make_bot

from chatsession import SessionEncodeError, SessionError, SessionKeyError, SessionManager
from chatsession.errors import SessionNameError
from chatsession.integrations.telebot import LazySessionContext, SessionContext, UpdateContext, setup_sessions


class BurntError(Exception):
    """What a handler of these tests raises."""


@pytest.fixture
def errors() -> list[BaseException]:
    return []


@pytest.fixture
def bot(sessions: SessionManager[Pizza], errors: list[BaseException]) -> QuietBot:
    """A bot with sessions."""
    bot = make_bot(errors)
    setup_sessions(bot, sessions)
    return bot


async def test_a_handler_names_session_and_ctx(bot: QuietBot, sessions: SessionManager[Pizza]) -> None:
    @bot.message_handler(commands=["reset"])
    async def on_reset(message: Message, ctx: SessionContext[Pizza]) -> None:
        ctx.session = None

    @bot.message_handler()
    async def on_pizza(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        assert ctx.session is session
        session.count += 1

    await feed(bot, message(), message())
    assert await sessions.get(1) == Pizza(2)
    await feed(bot, message("/reset"))
    assert await sessions.get(1) is None


async def test_one_trip_to_load_and_one_to_store(bot: QuietBot, storage: CountingStorage) -> None:
    @bot.message_handler()
    async def on_pizza(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        session.count += 1

    await feed(bot, message())
    assert storage.calls == {"lock": 1, "put": 1}


async def test_others_cost_nothing(bot: QuietBot, storage: CountingStorage) -> None:
    seen: list[object] = []

    @bot.message_handler(commands=["data"])
    async def with_data(message: Message, data: dict[str, Any]) -> None:
        seen.append(data["ctx"])

    @bot.message_handler(commands=["bot"], pass_bot=True)
    async def with_bot(message: Message, bot: AsyncTeleBot) -> None:
        seen.append(bot)

    @bot.message_handler(func=lambda message: False)
    async def never(message: Message, session: Pizza) -> None: ...

    @bot.message_handler()
    async def on_pizza(message: Message) -> None:
        seen.append(message.text)

    await feed(bot, message("/data"))
    await feed(bot, message("/bot"))
    await feed(bot, message("hi"))
    assert isinstance(seen.pop(0), SessionContext)
    assert seen == [bot, "hi"]
    assert storage.calls == {}


async def test_the_session_beside_all_that_telebot_gives(bot: QuietBot, sessions: SessionManager[Pizza]) -> None:
    class Language(BaseMiddleware):
        update_sensitive = False
        update_types = ["message"]  # noqa: RUF012 - as telebot has it

        async def pre_process(self, message: Message, data: dict[str, Any]) -> None:
            data["language"] = "it"

        async def post_process(self, *_: object) -> None: ...

    bot.setup_middleware(Language())

    @bot.message_handler(commands=["data"])
    async def with_data(message: Message, data: dict[str, Any], session: Pizza) -> None:
        assert data["ctx"].session is session
        session.toppings.append(data["language"])

    @bot.message_handler(commands=["all"])
    async def with_data_and_bot(message: Message, session: Pizza, data: dict[str, Any], bot: AsyncTeleBot) -> None:
        session.toppings.append(data["language"] + str(bot.bot_id))

    @bot.message_handler(pass_bot=True)
    async def with_keywords(message: Message, session: Pizza, language: str, bot: AsyncTeleBot) -> None:
        session.toppings.append(language.upper() + str(bot.bot_id))

    for text in ("/data", "/all", "hi"):
        await feed(bot, message(text))
    assert await sessions.get(1) == Pizza(0, ["it", "it42", "IT42"])


async def test_data_loads_by_its_context(bot: QuietBot, sessions: SessionManager[Pizza]) -> None:
    @bot.message_handler()
    async def with_data(message: Message, data: dict[str, Any]) -> None:
        (await data["ctx"].load_session()).count += 1

    await feed(bot, message())
    assert await sessions.get(1) == Pizza(1)


class Order(StatesGroup):
    size = State()


async def test_states_beside_sessions(sessions: SessionManager[Pizza], errors: list[BaseException]) -> None:
    from telebot.asyncio_filters import StateFilter

    bot = QuietBot("42:playground", state_storage=StateMemoryStorage(), validate_token=False)
    bot.add_custom_filter(StateFilter(bot))
    bot.setup_middleware(StateMiddleware(bot))
    setup_sessions(bot, sessions)

    @bot.message_handler(state=Order.size)
    async def go_on(message: Message, state: StateContext, session: Pizza) -> None:
        session.toppings.append("big")
        await state.delete()

    @bot.message_handler()
    async def begin(message: Message, session: Pizza, state: StateContext) -> None:
        session.count += 1
        await state.set(Order.size)

    for _ in range(3):
        await feed(bot, message())
    assert await sessions.get(1) == Pizza(2, ["big"])


class Looking(BaseMiddleware):
    """A middleware that uses the session before and after, or ends the update early."""

    update_sensitive = False
    update_types = ["message"]  # noqa: RUF012 - as telebot has it

    def __init__(self, result: object = None) -> None:
        self.result = result
        self.after = 0

    async def pre_process(self, message: Message, data: dict[str, Any]) -> object:
        pizza: Pizza = await data["ctx"].load_session()
        if message.text == "look":
            return self.result
        pizza.toppings.append("before")
        if message.text == "burn":
            raise BurntError
        return self.result

    async def post_process(self, message: Message, data: dict[str, Any], exception: Exception | None) -> None:
        self.after += 1
        data["ctx"].session.toppings.append("after")


@pytest.mark.parametrize("result", [None, SkipHandler(), CancelUpdate()])
async def test_a_middleware_shares_the_session(
    bot: QuietBot, sessions: SessionManager[Pizza], storage: CountingStorage, result: object
) -> None:
    bot.setup_middleware(Looking(result))

    @bot.message_handler()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.toppings.append("handler")

    await feed(bot, message())
    expected = [
        "before",
        *(["handler"] if result is None else []),
        *(["after"] * (not isinstance(result, CancelUpdate))),
    ]
    assert await sessions.get(1) == Pizza(0, expected)
    assert storage.calls["lock"] == 1


async def test_an_update_that_a_middleware_cancels_leaves_nothing(
    bot: QuietBot, sessions: SessionManager[Pizza], storage: CountingStorage
) -> None:
    bot.setup_middleware(Looking(CancelUpdate()))
    for _ in range(2):
        await feed(bot, message("look"))
    assert storage.calls == {"lock": 2, "keep": 2}
    assert await sessions.get(1) is None


async def test_a_middleware_that_raises_leaves_no_lock(bot: QuietBot, sessions: SessionManager[Pizza]) -> None:
    bot.setup_middleware(Looking())

    @bot.message_handler()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    with pytest.raises(BurntError):
        await feed(bot, message("burn"))
    async with asyncio.timeout(120):
        await feed(bot, message())
    assert await sessions.get(1) == Pizza(1, ["before", "after"])


async def test_an_error_handler_may_open_the_failed_updates_session(
    sessions: SessionManager[Pizza],
) -> None:
    class Noting:
        async def handle(self, exception: Exception) -> bool:
            async with asyncio.timeout(120):
                await sessions.update(1, lambda pizza: pizza.toppings.append(type(exception).__name__))
            return True

    bot = QuietBot("42:playground", exception_handler=Noting(), validate_token=False)  # type: ignore[arg-type]
    setup_sessions(bot, sessions)

    @bot.message_handler()
    async def bad(message: Message, session: Pizza) -> None:
        session.count += 1
        raise BurntError

    await feed(bot, message())
    assert await sessions.get(1) == Pizza(0, ["BurntError"])


async def test_continue_handling_is_one_unit_of_work(
    bot: QuietBot, sessions: SessionManager[Pizza], storage: CountingStorage, errors: list[BaseException]
) -> None:
    @bot.message_handler()
    async def first(message: Message, session: Pizza) -> ContinueHandling:
        session.count += 1
        return ContinueHandling()

    @bot.message_handler()
    async def second(message: Message, session: Pizza) -> ContinueHandling:
        assert session.count == 1
        session.count += 1
        return ContinueHandling()

    @bot.message_handler()
    async def third(message: Message) -> None:
        if message.text == "burn":
            raise BurntError

    await feed(bot, message("burn"))
    assert [type(error) for error in errors] == [BurntError]
    assert await sessions.get(1) is None
    await feed(bot, message())
    assert await sessions.get(1) == Pizza(2)
    assert storage.calls["put"] == 1


async def test_a_filter_that_raises_after_a_handler_undoes_its_change(
    bot: QuietBot, sessions: SessionManager[Pizza], errors: list[BaseException]
) -> None:
    def bad_filter(message: Message) -> bool:
        raise BurntError

    @bot.message_handler()
    async def first(message: Message, session: Pizza) -> ContinueHandling:
        session.count += 1
        return ContinueHandling()

    @bot.message_handler(func=bad_filter)
    async def second(message: Message) -> None: ...

    await feed(bot, message())
    assert [type(error) for error in errors] == [BurntError]
    assert await sessions.get(1) is None


async def test_the_exception_handler_gets_a_session_not_stored(
    bot: QuietBot, sessions: SessionManager[Pizza], errors: list[BaseException]
) -> None:
    @bot.message_handler()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1
        if message.text == "poison":
            session.toppings.append(object())  # type: ignore[arg-type]

    await feed(bot, message(), message("poison"), message())
    assert [type(error) for error in errors] == [SessionEncodeError]
    assert await sessions.get(1) == Pizza(2)


async def test_without_an_exception_handler_it_is_logged(
    sessions: SessionManager[Pizza], caplog: pytest.LogCaptureFixture
) -> None:
    bot = make_bot()
    setup_sessions(bot, sessions)

    @bot.message_handler()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.toppings.append(object())  # type: ignore[arg-type]

    with caplog.at_level(logging.ERROR, "chatsession"):
        await feed(bot, message())
    assert "what it did to its session is lost" in caplog.text


async def test_an_update_without_a_chat(bot: QuietBot, errors: list[BaseException]) -> None:
    ran: list[str] = []

    @bot.inline_handler(lambda query: query.query == "pizza")
    async def strict(query: object, session: Pizza) -> None:
        ran.append("strict")

    await feed(bot, inline_query())
    assert [type(error) for error in errors] == [SessionKeyError]
    assert "no chat" in str(errors[0])
    assert ran == []


async def test_lazy(sessions: SessionManager[Pizza], storage: CountingStorage) -> None:
    bot = make_bot()
    setup_sessions(bot, sessions, lazy=True)

    @bot.message_handler()
    async def on_pizza(message: Message, session: Any, ctx: LazySessionContext[Pizza]) -> None:
        if message.text == "🍕":
            (await ctx.session).count += 1
            assert await session is await ctx.session

    await feed(bot, message("hi"))
    assert storage.calls == {}
    await feed(bot, message())
    assert await sessions.get(1) == Pizza(1)


async def test_several_managers_and_bots(storage: CountingStorage, errors: list[BaseException]) -> None:
    pizzas = SessionManager(Pizza, storage=storage)
    carts = SessionManager(list[str], storage=storage, name="cart", prefix="cart:")
    for token in ("42:playground", "43:playground"):
        bot = make_bot(errors, token)
        setup_sessions(bot, pizzas, per_bot=True)
        setup_sessions(bot, carts)

        @bot.message_handler()
        async def on_pizza(message: Message, cart: list[str], session: Pizza, cart_ctx: SessionContext[Any]) -> None:
            session.count += 1
            cart.append(message.text or "")
            assert cart_ctx.session is cart
            if message.text == "burn":
                raise BurntError

        await feed(bot, message("a"), message("burn"))
    assert [type(error) for error in errors] == [BurntError] * 2
    assert [await pizzas.get(key) for key in ("42:1", "43:1", "1")] == [Pizza(1), Pizza(1), None]
    assert await carts.get(1) == ["a", "a"]


async def test_a_middleware_that_gives_something_else_under_the_name(
    bot: QuietBot, errors: list[BaseException], storage: CountingStorage
) -> None:
    class Database(BaseMiddleware):
        update_sensitive = False
        update_types = ["message"]  # noqa: RUF012 - as telebot has it

        async def pre_process(self, message: Message, data: dict[str, Any]) -> None:
            data["session"] = "of a database"

        async def post_process(self, *_: object) -> None: ...

    bot.setup_middleware(Database())

    @bot.message_handler()
    async def on_pizza(message: Message, session: Pizza) -> None: ...

    await feed(bot, message())
    assert [type(error) for error in errors] == [SessionNameError]
    assert "something else as 'session' already (a str from a middleware)" in str(errors[0])
    assert "name='state_'" in str(errors[0])
    assert storage.calls == {}


async def test_a_key_function_gets_what_handlers_get() -> None:
    def by_text(ctx: UpdateContext) -> str:
        assert isinstance(ctx.update, Message)
        assert ctx.update_id is not None
        return f"{ctx.bot_id}/{ctx.chat_id}/{ctx.update.text}"

    bot, sessions = make_bot(), SessionManager(Pizza, storage="memory:", get_session_key=by_text)
    setup_sessions(bot, sessions)

    @bot.message_handler()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    await feed(bot, message("hi", chat=group()))
    assert await sessions.get("42/-100/hi") == Pizza(1)


@pytest.mark.parametrize("wraps", [True, False])
async def test_a_handler_behind_a_decorator(wraps: bool) -> None:
    def logged(handler: Any) -> Any:
        async def wrapper(message: Message, **given: Any) -> None:
            await handler(message, **given)

        return functools.wraps(handler)(wrapper) if wraps else wrapper

    bot, sessions = make_bot(errors := []), SessionManager(Pizza, storage="memory:")
    setup_sessions(bot, sessions)

    @bot.message_handler(commands=["help"])
    @logged
    async def on_help(ctx: Message) -> None:
        assert await sessions.get(1) is None

    @bot.message_handler()
    @logged
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    await feed(bot, message("/help"), message())
    assert errors == []
    assert await sessions.get(1) == Pizza(1)


async def test_a_failing_key_function_loses_no_other_update() -> None:
    def key(ctx: UpdateContext) -> int | None:
        if ctx.moves_chat:
            raise RuntimeError("no key")
        return ctx.chat_id

    bot = make_bot(errors := [])
    sessions = SessionManager(Pizza, storage="memory:", get_session_key=key)
    setup_sessions(bot, sessions)

    @bot.message_handler()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    await feed(bot, message("", chat=group(), migrate_to_chat_id=-200), message())
    assert [repr(error.__cause__) for error in errors] == ["RuntimeError('no key')"]
    assert await sessions.get(1) == Pizza(1)


async def test_a_handler_whose_partial_binds_the_name_is_refused(errors: list[BaseException]) -> None:
    async def on_pizza(message: Message, session: Any) -> None: ...

    bot, sessions = make_bot(errors), SessionManager(Pizza, storage="memory:")
    setup_sessions(bot, sessions)
    bot.register_message_handler(partial(on_pizza, session=object()))
    await feed(bot, message())
    assert ["bound by functools.partial" in str(error) for error in errors] == [True]


def test_what_is_refused_at_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def sessions(**options: Any) -> SessionManager[Any]:
        return SessionManager(Pizza, storage="memory:", **options)

    with pytest.raises(TypeError, match=r"TeleBot needs a chatsession\.sync\.SessionManager"):
        setup_sessions(TeleBot("42:playground", validate_token=False, threaded=False), sessions())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="per_bot needs the bot's id"):
        setup_sessions(make_bot(token="nonsense"), sessions(), per_bot=True)
    for name in ("data", "bot", "state"):
        with pytest.raises(ValueError, match=f"something else as {name!r} already"):
            setup_sessions(make_bot(), sessions(name=name))
    bot, shared = make_bot(), CountingStorage()
    setup_sessions(bot, SessionManager(Pizza, storage=shared))
    with pytest.raises(ValueError, match="are set up already"):
        setup_sessions(bot, sessions())
    with pytest.raises(ValueError, match="the same keys in the same storage"):
        setup_sessions(bot, SessionManager(Pizza, storage=shared, name="cart"))

    async def older(self: object, message: object, handlers: object) -> None: ...

    monkeypatch.setattr(AsyncTeleBot, "_run_middlewares_and_handlers", older)
    with pytest.raises(SessionError, match=r"need pyTelegramBotAPI 4\.27 or newer"):
        setup_sessions(make_bot(), sessions())

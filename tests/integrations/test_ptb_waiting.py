"""Only handlers and jobs that use the session wait for it, and each that uses it has it, by whichever way."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiogram_aids import CountingStorage, Pizza, message
from ptb_aids import Context, build, builder, count_up, errors_of, feed, on_text, serving
from telegram import Update
from telegram.ext import (
    BaseHandler,
    CommandHandler,
    ConversationHandler,
    JobQueue,
    MessageHandler,
    TypeHandler,
    filters,
)
from waiting_aids import until

from chatsession import SessionManager
from chatsession.integrations.telegram_ext import SessionCallbackContext, setup_sessions

Handler = Callable[..., Awaitable[Any]]
LOG: list[object] = []


class OwnContext(SessionCallbackContext[Pizza]):
    """With methods and a property that use the session, and some that do not."""

    def count_up(self) -> None:
        self.session.count += 1

    @property
    def pizza(self) -> Pizza:
        return self.session

    @functools.cached_property
    def cached(self) -> Pizza:
        return self.session

    async def greet(self) -> None:
        LOG.append(self.bot.id)

    def count_by(self, number: int) -> None:
        self.session.count += number

    count_one = functools.partialmethod(count_by, 1)


# Ways to use the session.


async def by_attribute(update: Update, context: Context) -> None:
    context.session.count += 1


async def by_assignment(update: Update, context: Context) -> None:
    context.session = Pizza(1)


async def by_getattr(update: Update, context: Context) -> None:
    getattr(context, "session").count += 1  # noqa: B009 - as people write it


async def bake(context: Context) -> None:
    context.session.count += 1


async def by_helper(update: Update, context: Context) -> None:
    await bake(context)


async def by_helper_with_a_keyword(update: Update, context: Context) -> None:
    await bake(context=context)


async def by_inner_function(update: Update, context: Context) -> None:
    async def inner() -> None:
        context.session.count += 1

    await inner()


async def by_inner_helper(update: Update, context: Context) -> None:
    async def inner(given: Context) -> None:
        given.session.count += 1

    await inner(context)


async def by_table(update: Update, context: Context) -> None:
    await {"bake": bake}["bake"](context)


async def by_another_name(update: Update, context: Context) -> None:
    other = context
    other.session.count += 1


async def by_locals(update: Update, context: Context) -> None:
    locals()["context"].session.count += 1


async def by_method_of_context(update: Update, context: OwnContext) -> None:
    context.count_up()


async def by_property_of_context(update: Update, context: OwnContext) -> None:
    context.pizza.count += 1


async def by_cached_property_of_context(update: Update, context: OwnContext) -> None:
    context.cached.count += 1


class Kitchen:
    async def bake(self, context: Context) -> None:
        context.session.count += 1

    async def by_method(self, update: Update, context: Context) -> None:
        await self.bake(context)

    async def __call__(self, update: Update, context: Context) -> None:
        await self.bake(context)


KITCHEN = Kitchen()


async def by_object_elsewhere(update: Update, context: Context) -> None:
    await KITCHEN.bake(context)


class Closed:
    async def bake(self, context: Context) -> None: ...


REOPENED = Closed()
REOPENED.bake = bake  # type: ignore[method-assign] # as people replace a method of one object


async def by_method_of_one_object(update: Update, context: Context) -> None:
    await REOPENED.bake(context)


class Keeper:
    def __init__(self, context: Context) -> None:
        self.context = context


async def by_kept_context(update: Update, context: Context) -> None:
    Keeper(context).context.session.count += 1


def decorated(handler: Handler) -> Handler:
    @functools.wraps(handler)
    async def wrapper(update: Update, context: Context, *args: Any, **kwargs: Any) -> Any:
        return await handler(update, context, *args, **kwargs)

    return wrapper


def decorated_without_wraps(handler: Handler) -> Handler:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await handler(*args, **kwargs)

    return wrapper


async def by_partialmethod(update: Update, context: OwnContext) -> None:
    context.count_one()


@decorated
async def by_decorated_helper(update: Update, context: Context) -> None:
    await DECORATED_HELPER(update, context)


DECORATED_HELPER = decorated(by_attribute)


async def with_a_first_argument(first: str, update: Update, context: Context) -> None:
    context.session.count += 1


made_elsewhere: dict[str, Any] = {"by_source_that_is_not_there": None}
exec("async def by_source_that_is_not_there(update, context): context.session.count += 1", made_elsewhere)

USING: dict[str, Handler] = {
    each.__name__: each
    for each in (
        *(by_attribute, by_assignment, by_getattr, by_helper, by_helper_with_a_keyword, by_inner_function),
        *(by_inner_helper, by_table, by_another_name, by_locals, by_method_of_context, by_property_of_context),
        *(by_cached_property_of_context, by_object_elsewhere, by_kept_context, KITCHEN.by_method),
        *(by_partialmethod, by_method_of_one_object),
        made_elsewhere["by_source_that_is_not_there"],
    )
} | {
    "an object": KITCHEN,
    "a decorator": decorated(by_attribute),
    "a decorator without wraps": decorated_without_wraps(by_attribute),
    "a decorator that its helper has, too": by_decorated_helper,
    "a partial": functools.partial(with_a_first_argument, "first"),
}


@pytest.mark.parametrize("block", [True, False])
@pytest.mark.parametrize("way", USING)
async def test_a_handler_that_uses_the_session_has_it(
    sessions: SessionManager[Pizza], storage: CountingStorage, way: str, block: bool
) -> None:
    application = build(OwnContext)
    setup_sessions(application, sessions)
    on_text(application, USING[way], block=block)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
        await until(lambda: not sessions.runtime.active and storage.calls["put"])
        assert await sessions.get(1) == Pizza(1)
    assert errors == []


async def test_a_context_that_makes_attributes_up(sessions: SessionManager[Pizza]) -> None:
    class Own(SessionCallbackContext[Pizza]):
        def __getattr__(self, name: str) -> Pizza:
            if name == "by_another_name":
                return self.session
            raise AttributeError(name)

    async def count(update: Update, context: Own) -> None:
        context.by_another_name.count += 1

    application = build(Own)
    setup_sessions(application, sessions)
    on_text(application, count)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == Pizza(1)


# Ways to do without it.


async def nothing(update: Update, context: Context) -> None: ...


async def by_other_attributes(update: Update, context: Context) -> None:
    LOG.append((context.bot, context.args, context.chat_data, context.application.running))
    context.note = "note"  # type: ignore[attr-defined]


async def note(update: Update, context: Context) -> None:
    LOG.append(context.bot)


async def by_helper_without(update: Update, context: Context) -> None:
    await note(update, context)


async def by_other_method_of_context(update: Update, context: OwnContext) -> None:
    await context.greet()


class Desk:
    async def note(self, context: Context) -> None:
        LOG.append(context.bot)

    async def by_method_without(self, update: Update, context: Context) -> None:
        await self.note(context)


WITHOUT: dict[str, Handler] = {
    each.__name__: each
    for each in (
        *(nothing, by_other_attributes, by_helper_without, by_other_method_of_context, Desk().by_method_without),
    )
} | {
    "a decorator": decorated(nothing),
    "a decorator without wraps": decorated_without_wraps(by_helper_without),
    "two decorators": decorated(decorated_without_wraps(nothing)),
}


@pytest.mark.parametrize("block", [True, False])
@pytest.mark.parametrize("way", WITHOUT)
async def test_a_handler_that_does_not_use_it_costs_nothing(
    sessions: SessionManager[Pizza], storage: CountingStorage, way: str, block: bool
) -> None:
    application = build(OwnContext)
    setup_sessions(application, sessions)
    on_text(application, WITHOUT[way], block=block)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
    assert storage.calls == {}
    assert errors == []


@pytest.mark.parametrize("added", ["before", "after"])
@pytest.mark.parametrize("decorator", [lambda handler: handler, decorated, decorated_without_wraps])
async def test_help_does_not_wait_for_the_stream_of_an_answer(
    sessions: SessionManager[Pizza], added: str, decorator: Callable[[Handler], Handler]
) -> None:
    order: list[str] = []
    helped = asyncio.Event()

    async def stream(update: Update, context: Context) -> None:
        context.session.count += 1
        await helped.wait()
        order.append("stream")

    async def on_help(update: Update, context: Context) -> None:
        order.append("help")
        helped.set()

    application = build()
    if added == "after":
        setup_sessions(application, sessions)
    on_text(application, decorator(stream), "tell me")
    on_text(application, decorator(on_help), "/help")
    if added == "before":
        setup_sessions(application, sessions)
    async with serving(application), asyncio.timeout(120):
        for text in ("tell me", "/help"):
            await application.update_queue.put(Update.de_json(message(text), application.bot))
        await application.update_queue.join()
        assert await sessions.get(1) == Pizza(1)
    assert order == ["help", "stream"]


async def test_handlers_of_an_update_that_use_it_share_it_with_none_between(
    sessions: SessionManager[Pizza], storage: CountingStorage
) -> None:
    application = build()
    setup_sessions(application, sessions)
    for place, handler in enumerate((nothing, count_up, nothing, count_up)):
        on_text(application, handler, group=place)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == Pizza(2)
    assert storage.calls["lock"] == storage.calls["put"] == 1


async def test_a_handler_class_of_ones_own(sessions: SessionManager[Pizza]) -> None:
    """It need not call its callback at all."""

    class Own(BaseHandler[Update, Context, None]):
        def check_update(self, update: object) -> bool:
            return isinstance(update, Update)

        async def handle_update(self, update: Update, application: Any, check_result: object, context: Context) -> None:
            context.session.count += 1

    application = build()
    setup_sessions(application, sessions)
    application.add_handler(Own(nothing))
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == Pizza(1)
    assert errors == []


async def test_handlers_keep_their_class_and_their_callback(sessions: SessionManager[Pizza]) -> None:
    application, handler = build(), CommandHandler("pizza", count_up)
    setup_sessions(application, sessions)
    application.add_handler(handler)
    assert isinstance(handler, CommandHandler)
    assert type(handler).__name__ == "CommandHandler"
    assert handler.callback is count_up
    application.remove_handler(handler)


class TestConversations:
    @pytest.mark.parametrize("block", [True, False])
    async def test_each_handler_inside_counts_by_itself(
        self, sessions: SessionManager[Pizza], storage: CountingStorage, block: bool
    ) -> None:
        async def order(update: Update, context: Context) -> str:
            return "topping"

        async def topping(update: Update, context: Context) -> int:
            context.session.count += 1
            return ConversationHandler.END

        inner = ConversationHandler(
            entry_points=[MessageHandler(filters.Text(["inner"]), order)],
            states={"topping": [MessageHandler(filters.TEXT, topping)]},
            fallbacks=[],
            map_to_parent={ConversationHandler.END: ConversationHandler.END},
            block=block,
        )
        application = build()
        setup_sessions(application, sessions)
        application.add_handler(
            ConversationHandler([CommandHandler("order", order)], {"topping": [inner]}, [], block=block)
        )
        errors = errors_of(application)
        async with serving(application):
            await feed(application, message("/order"), message("inner"))
            assert storage.calls == {}
            await feed(application, message("basil"))
            await until(lambda: not sessions.runtime.active and storage.calls["put"])
            assert await sessions.get(1) == Pizza(1)
        assert errors == []

    async def test_a_handler_that_is_put_inside_while_the_bot_runs(self, sessions: SessionManager[Pizza]) -> None:
        entries: list[Any] = []
        conversation = ConversationHandler(entries, {}, [])
        application = build()
        setup_sessions(application, sessions)
        application.add_handler(conversation)
        async with serving(application):
            conversation.entry_points.append(MessageHandler(filters.TEXT, count_up))
            await feed(application, message())
            assert await sessions.get(1) == Pizza(1)


@pytest.mark.parametrize("uses", [True, False])
async def test_jobs_that_do_not_use_it_do_not_wait(
    sessions: SessionManager[Pizza], storage: CountingStorage, uses: bool
) -> None:
    ran: list[object] = []

    async def remind(context: Context) -> None:
        ran.append(context.bot)

    async def count(context: Context) -> None:
        ran.append(context.session)

    application = builder().job_queue(JobQueue()).build()
    setup_sessions(application, sessions)
    async with serving(application):
        job = application.job_queue.run_once(count if uses else remind, 3600, chat_id=7)  # type: ignore[union-attr]
        await job.run(application)
        job.schedule_removal()
    assert len(ran) == 1
    assert ("lock" in storage.calls) == uses


async def test_a_redelivered_update_runs_no_handler_that_uses_the_session(storage: CountingStorage) -> None:
    application, sessions = build(), SessionManager(Pizza, storage=storage, deduplicate=10)
    setup_sessions(application, sessions)
    on_text(application, nothing)
    on_text(application, count_up, group=1)
    on_text(application, count_up, group=2)
    update = message()
    errors = errors_of(application)
    async with serving(application):
        await feed(application, update, update)
        assert await sessions.get(1) == Pizza(2)
    assert errors == []


async def test_the_bots_id_is_needed_only_per_bot(sessions: SessionManager[Pizza]) -> None:
    """A bot knows its id once it was initialized, which tests and offline tools do not do."""

    async def on_update(update: Update, context: Context) -> None:
        context.session.count += 1

    application = builder().build()
    setup_sessions(application, sessions)
    application.add_handler(TypeHandler(Update, on_update))
    errors = errors_of(application)
    application._initialized = True  # in place of `initialize()`, which asks for the bot's id
    await application.process_update(Update.de_json(message(), application.bot))
    assert errors == []
    assert await sessions.get(1) == Pizza(1)

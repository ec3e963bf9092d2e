"""One unit of work for all handlers of an update, whichever group they are in, and whether they block or not."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from aiogram_aids import CountingStorage, Pizza, group, inline_query, message
from ptb_aids import (
    App,
    BurntError,
    Context,
    LazyContext,
    build,
    builder,
    count_up,
    errors_of,
    feed,
    on_text,
    process,
    refused,
    serving,
)
from telegram import Update
from telegram.ext import ApplicationHandlerStop, CommandHandler, ConversationHandler, MessageHandler, filters
from waiting_aids import until

from chatsession import SessionAttribute, SessionClosedError, SessionError, SessionKeyError, SessionManager, per_user
from chatsession.integrations.telegram_ext import LazySessionAttribute, SessionCallbackContext, setup_sessions


@pytest.fixture
def application(sessions: SessionManager[Pizza]) -> App:
    application = build()
    setup_sessions(application, sessions)
    return application


async def burn(update: Update, context: Any) -> None:
    raise BurntError


async def test_handlers_of_all_groups_share_one_session(
    application: App, sessions: SessionManager[Pizza], storage: CountingStorage
) -> None:
    seen: list[Pizza] = []

    async def second(update: Update, context: Context) -> None:
        seen.append(context.session)
        context.session = Pizza(context.session.count + 10)

    async def third(update: Update, context: Context) -> None:
        seen.append(context.session)

    on_text(application, count_up)
    on_text(application, second, group=1)
    on_text(application, third, group=2)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == seen[1] == Pizza(11)
    assert seen[0] == Pizza(1)
    assert storage.calls["lock"] == storage.calls["put"] == 1


async def test_an_update_leaves_nothing_to_the_garbage_collector(application: App) -> None:
    contexts: list[weakref.ref[Context]] = []

    async def note(update: Update, context: Context) -> None:
        context.session.count += 1
        contexts.append(weakref.ref(context))

    on_text(application, note)
    gc.disable()
    try:
        async with application:
            await process(application, message())
            assert [context() for context in contexts] == [None]
    finally:
        gc.enable()


async def test_an_update_that_nobody_handles_costs_nothing(application: App, storage: CountingStorage) -> None:
    on_text(application, count_up, "this")
    async with serving(application):
        await feed(application, message("that"), inline_query())
    assert storage.calls == {}


async def test_application_handler_stop_commits_and_stops(application: App, sessions: SessionManager[Pizza]) -> None:
    async def stop(update: Update, context: Context) -> None:
        context.session.count += 1
        raise ApplicationHandlerStop

    on_text(application, stop)
    on_text(application, burn, group=1)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == Pizza(1)
    assert errors == []


@pytest.mark.parametrize("told", [True, False])
async def test_a_failing_handler_takes_the_earlier_ones_change_with_it(
    application: App, sessions: SessionManager[Pizza], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    on_text(application, count_up)
    on_text(application, burn, group=1)
    if told:
        errors_of(application)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) is None
    assert ("No error handlers are registered" in caplog.text) is not told


async def test_later_groups_begin_afresh_after_a_failure(application: App, sessions: SessionManager[Pizza]) -> None:
    seen: list[Pizza] = []

    async def note(update: Update, context: Context) -> None:
        seen.append(context.session)
        context.session.toppings.append("seen")

    on_text(application, count_up)
    on_text(application, note, group=1)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message("burn"))
        assert await sessions.get(1) == Pizza(0, ["seen"])
    assert seen == [Pizza(0, ["seen"])]
    assert [type(error) for error in errors] == [BurntError]


async def test_an_error_handler_can_stop_later_groups(application: App, sessions: SessionManager[Pizza]) -> None:
    async def stop(update: object, context: Context) -> None:
        raise ApplicationHandlerStop

    on_text(application, count_up)
    on_text(application, count_up, group=1)
    application.add_error_handler(stop)
    async with serving(application):
        await feed(application, message("burn"))
        assert await sessions.get(1) is None


async def test_a_filter_that_fails_leaves_no_lock(application: App, sessions: SessionManager[Pizza]) -> None:
    class Burning(filters.MessageFilter):
        def filter(self, message: object) -> bool:
            raise BurntError

    application.add_handler(MessageHandler(Burning(), count_up), -1)
    application.add_handler(MessageHandler(Burning(), count_up), 1)
    on_text(application, count_up)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message(), message())
    assert [type(error) for error in errors] == [BurntError] * 4
    async with sessions:
        assert await sessions.get(1) is None, "the filter of group 1 failed the update"
        assert not sessions.runtime.active


@pytest.mark.parametrize("block", [True, False])
async def test_a_handler_that_reports_an_error_itself_stores_nothing_and_is_told(
    application: App, sessions: SessionManager[Pizza], block: bool
) -> None:
    async def report(update: Update, context: Context) -> None:
        context.session.count += 1
        await context.application.process_error(update, BurntError())
        with refused(SessionClosedError):
            context.session.count += 1

    on_text(application, report, block=block)
    on_text(application, burn, "never", group=1)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
        await until(lambda: errors and not sessions.runtime.active)
        assert await sessions.get(1) is None
    assert [type(error) for error in errors] == [BurntError]


async def test_a_value_that_cannot_be_stored_reaches_the_error_handlers(
    application: App, sessions: SessionManager[Pizza]
) -> None:
    async def poison(update: Update, context: Context) -> None:
        context.session.toppings.append(object())  # type: ignore[arg-type]

    on_text(application, poison)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) is None
    assert [type(error).__name__ for error in errors] == ["SessionEncodeError"]


async def test_update_by_update_as_well(application: App, sessions: SessionManager[Pizza]) -> None:
    """Without a queue, as those do who have a webhook of their own and no `start()`."""
    on_text(application, count_up)
    async with application:
        await process(application, message())
        await process(application, message())
        assert await sessions.get(1) == Pizza(2)
    assert not sessions.storage.is_open


# block=False


@pytest.mark.parametrize("concurrent", [True, False])
async def test_a_handler_that_does_not_block_keeps_its_session_until_it_is_done(
    sessions: SessionManager[Pizza], concurrent: bool
) -> None:
    application = builder().concurrent_updates(concurrent).build()
    setup_sessions(application, sessions)
    busy, go_on = asyncio.Event(), asyncio.Event()

    async def slow(update: Update, context: Context) -> None:
        count = context.session.count
        busy.set()
        await go_on.wait()
        context.session.count = count + 1

    on_text(application, slow, block=False)
    async with serving(application):
        for _ in range(5):
            await application.update_queue.put(Update.de_json(message(), application.bot))
        await busy.wait()
        assert await sessions.get(1) is None
        go_on.set()
        await application.update_queue.join()
    async with sessions:
        assert await sessions.get(1) == Pizza(5)


async def test_all_handlers_of_an_update_are_stored_together_also_if_some_do_not_block(
    application: App, sessions: SessionManager[Pizza], storage: CountingStorage
) -> None:
    go_on = asyncio.Event()

    async def slow(update: Update, context: Context) -> None:
        await go_on.wait()
        context.session.toppings.append("slow")

    async def slower(update: Update, context: Context) -> None:
        await go_on.wait()
        await asyncio.sleep(0)
        context.session.toppings.append("slower")

    on_text(application, slow, block=False)
    on_text(application, slower, group=1, block=False)
    on_text(application, count_up, group=2)
    async with serving(application):
        await feed(application, message())
        assert storage.calls["put"] == 0
        go_on.set()
    async with sessions:
        assert await sessions.get(1) == Pizza(1, ["slow", "slower"])
    assert storage.calls["lock"] == storage.calls["put"] == 1


async def test_a_handler_that_does_not_block_and_fails_fails_the_update(
    application: App, sessions: SessionManager[Pizza]
) -> None:
    coroutines: list[object] = []

    async def note(update: object, context: Context) -> None:
        coroutines.append(context.coroutine)

    on_text(application, count_up)
    on_text(application, burn, group=1, block=False)
    application.add_error_handler(note)
    async with serving(application):
        await feed(application, message())
        await until(lambda: coroutines)
        assert await sessions.get(1) is None
        async with sessions.open(1):
            pass
    assert [coroutine.__name__ for coroutine in coroutines] == ["handle_update"]  # type: ignore[attr-defined]


async def test_one_that_does_not_block_is_not_given_the_session_of_a_later_group(
    application: App, sessions: SessionManager[Pizza]
) -> None:
    """Half of what it does must not be stored: its update has failed, and with it what it did before."""
    go_on, done = asyncio.Event(), asyncio.Event()

    async def slow(update: Update, context: Context) -> None:
        context.session.toppings.append("first half")
        await go_on.wait()
        with refused(SessionClosedError):
            context.session.toppings.append("second half")
        done.set()

    async def fail(update: Update, context: Context) -> None:
        await asyncio.sleep(0)
        raise BurntError

    async def later(update: Update, context: Context) -> None:
        go_on.set()
        await done.wait()
        context.session.count += 1

    on_text(application, slow, block=False)
    on_text(application, fail, group=1)
    on_text(application, later, group=2)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == Pizza(1)
    assert [type(error) for error in errors] == [BurntError]


async def test_a_task_of_the_update_belongs_to_it_and_any_other_does_not(
    application: App, sessions: SessionManager[Pizza]
) -> None:
    go_on = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def later(context: Context) -> None:
        await go_on.wait()
        context.session.count += 1

    async def on_pizza(update: Update, context: Context) -> None:
        belongs = (message.text if (message := update.message) else None) == "belongs"
        tasks.append(context.application.create_task(later(context), update=update if belongs else Update(1)))

    on_text(application, on_pizza)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message("stray"))
        go_on.set()
        await asyncio.wait(tasks)
        assert [type(error) for error in errors] == [SessionClosedError]
        go_on.clear()
        await feed(application, message("belongs"))
        assert await sessions.get(1) is None
        go_on.set()
        await asyncio.wait(tasks)
        assert await sessions.get(1) == Pizza(1)


async def test_a_task_that_is_cancelled_before_it_begins_leaves_no_lock(
    application: App, sessions: SessionManager[Pizza]
) -> None:
    async def never(context: Context) -> None:
        context.session.count += 1

    async def on_pizza(update: Update, context: Context) -> None:
        context.session.count += 1
        if update.message and update.message.text == "cancel":
            context.application.create_task(never(context), update=update).cancel()

    on_text(application, on_pizza)
    async with serving(application), asyncio.timeout(120):
        await feed(application, message("cancel"), message())
        assert await sessions.get(1) == Pizza(1)


async def test_the_same_chat_opened_again_in_its_handler_is_an_error_at_once(
    application: App, sessions: SessionManager[Pizza]
) -> None:
    async def again(update: Update, context: Context) -> None:
        assert context.session == Pizza()
        await asyncio.sleep(0)
        async with sessions.open(1):
            pass

    on_text(application, again, "blocks")
    on_text(application, again, block=False)
    errors = errors_of(application)
    async with serving(application), asyncio.timeout(120):
        await feed(application, message("blocks"), message())
    assert [type(error) for error in errors] == [SessionError] * 2


# Conversations


def conversation(**options: Any) -> ConversationHandler[Any]:
    """Asks for a topping, and for one more, until it gets none."""

    async def order(update: Update, context: Context) -> str:
        context.session = Pizza(1)
        return "topping"

    async def topping(update: Update, context: Context) -> str:
        assert update.message is not None
        context.session.toppings.append(update.message.text or "")
        if update.message.text == "burn":
            raise BurntError
        return "topping"

    async def done(update: Update, context: Context) -> int:
        context.session.count += 10
        return ConversationHandler.END

    return ConversationHandler(
        entry_points=[CommandHandler("order", order)],
        states={"topping": [MessageHandler(filters.TEXT & ~filters.COMMAND, topping)]},
        fallbacks=[CommandHandler("done", done)],
        **options,
    )


@pytest.mark.parametrize("block", [True, False])
async def test_conversations(application: App, sessions: SessionManager[Pizza], block: bool) -> None:
    application.add_handler(conversation(block=block))
    errors = errors_of(application)
    async with serving(application):
        for text in ("basil", "/order", "basil", "burn", "ham", "/done", "basil"):
            await feed(application, message(text, chat=group()))
            await until(lambda: not sessions.runtime.active)
        assert await sessions.get(-100) == Pizza(11, ["basil", "ham"])
    assert [type(error) for error in errors] == [BurntError]


# Lazy, and several


async def test_a_lazy_session_is_read_when_it_is_asked_for() -> None:
    storage = CountingStorage()
    application, sessions = build(LazyContext), SessionManager(Pizza, storage=storage)
    setup_sessions(application, sessions, lazy=True)

    async def on_pizza(update: Update, context: LazyContext) -> None:
        pizza = await context.session
        assert pizza is await context.session
        pizza.count += 1

    async def on_reset(update: Update, context: LazyContext) -> None:
        context.session = None

    async def nothing(update: Update, context: LazyContext) -> None: ...

    on_text(application, nothing, "no")
    on_text(application, on_reset, "/reset")
    on_text(application, on_pizza)
    async with serving(application):
        await feed(application, message("no"), inline_query())
        assert storage.calls == {}
        await feed(application, message(), message())
        assert await sessions.get(1) == Pizza(2)
        await feed(application, message("/reset"))
        assert await sessions.get(1) is None


async def test_several_kinds_of_session_side_by_side(storage: CountingStorage) -> None:
    class Shop(SessionCallbackContext[Pizza]):
        cart = LazySessionAttribute[list[str]]()
        visits = SessionAttribute[int]()

    application = build(Shop)
    pizzas = SessionManager(Pizza, storage=storage)
    carts = SessionManager(list[str], storage=storage, name="cart", prefix="cart:", get_session_key=per_user)
    visits = SessionManager(int, storage=storage, name="visits", prefix="visits:")
    setup_sessions(application, pizzas)
    setup_sessions(application, carts, lazy=True)
    setup_sessions(application, visits)

    async def on_pizza(update: Update, context: Shop) -> None:
        context.session.count += 1
        context.visits += 1
        (await context.cart).append("margherita")
        await context.save_session()
        if update.message and update.message.text == "poison":
            context.session.count += 100
            context.visits = object()  # type: ignore[assignment]

    on_text(application, on_pizza)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message("poison", chat=group()))
        assert [type(error).__name__ for error in errors] == ["SessionEncodeError"]
        assert (await pizzas.get(-100), await visits.get(-100), await carts.get(1)) == (Pizza(1), 1, ["margherita"])
        async with asyncio.timeout(120):
            await feed(application, message(chat=group()))
        assert (await pizzas.get(-100), await visits.get(-100)) == (Pizza(2), 2)
    assert not storage.is_open


async def test_a_released_session_lets_the_next_update_in(application: App, sessions: SessionManager[Pizza]) -> None:
    second = asyncio.Event()

    async def stream(update: Update, context: Context) -> None:
        context.session.count += 1
        await context.release_session()
        await second.wait()
        assert context.session.count == 1
        with refused(SessionClosedError):
            context.session = Pizza(9)

    async def other(update: Update, context: Context) -> None:
        context.session.count += 1
        second.set()

    on_text(application, stream, "tell me")
    on_text(application, other)
    errors = errors_of(application)
    async with serving(application), asyncio.timeout(120):
        for text in ("tell me", "hm?"):
            await application.update_queue.put(Update.de_json(message(text), application.bot))
        await application.update_queue.join()
        assert await sessions.get(1) == Pizza(2)
    assert errors == []


@pytest.mark.parametrize("method", ["save_session", "release_session"])
async def test_saving_where_there_is_no_session_tells_why(application: App, method: str) -> None:
    from telegram.ext import InlineQueryHandler

    async def on_query(update: Update, context: Context) -> None:
        await getattr(context, method)()

    application.add_handler(InlineQueryHandler(on_query))
    errors = errors_of(application)
    async with serving(application):
        await feed(application, inline_query())
    assert [type(error) for error in errors] == [SessionKeyError]

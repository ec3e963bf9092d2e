"""Error handlers have sessions of their own, and only if they ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiogram_aids import CountingStorage, Pizza, inline_query, message
from ptb_aids import (
    App,
    BurntError,
    Context,
    LazyContext,
    build,
    count_up,
    errors_of,
    feed,
    on_text,
    refused,
    serving,
)
from ptb_persistence_aids import persistent
from telegram import Update
from telegram.ext import ApplicationHandlerStop, InlineQueryHandler
from waiting_aids import until

from chatsession import SessionError, SessionKeyError, SessionManager, StorageUnavailableError
from chatsession.integrations.telegram_ext import setup_sessions
from chatsession.storages import Change, Locked, LockRequest, Outcome


@pytest.fixture
def application(sessions: SessionManager[Pizza]) -> App:
    application = build()
    setup_sessions(application, sessions)
    on_text(application, count_up)
    return application


async def note_ash(update: object, context: Context) -> None:
    await context.load_session()
    context.session.toppings.append("ash")


async def test_one_that_does_not_ask_costs_nothing_and_is_told_how(storage: CountingStorage) -> None:
    application, told = build(), []
    setup_sessions(application, SessionManager(Pizza, storage=storage), lazy=False)

    async def on_error(update: object, context: Context) -> None:
        storage.calls.clear()
        with refused(SessionError, "load_session"):
            _ = context.session
        with refused(SessionError, "load_session"):
            context.session = Pizza(9)
        with refused(SessionError, "load_session"):
            await context.save_session()
        told.append(context.error)

    on_text(application, count_up)
    application.add_error_handler(on_error)
    async with serving(application):
        await feed(application, message("burn"))
    assert [type(error) for error in told] == [BurntError]
    assert storage.calls == {}


@pytest.mark.parametrize("block", [True, False])
async def test_one_that_asks_gets_what_is_stored(
    application: App, sessions: SessionManager[Pizza], block: bool
) -> None:
    application.add_error_handler(note_ash, block)
    async with serving(application):
        await feed(application, message(), message("burn"))
        await until(lambda: not sessions.runtime.active)
        assert await sessions.get(1) == Pizza(1, ["ash"]), "what the failed handler did is gone"


async def test_each_has_one_of_its_own(application: App, sessions: SessionManager[Pizza]) -> None:
    async def fail(update: object, context: Context) -> None:
        await note_ash(update, context)
        raise BurntError("again")

    async def stop(update: object, context: Context) -> None:
        await note_ash(update, context)
        raise ApplicationHandlerStop

    application.add_error_handler(note_ash)
    application.add_error_handler(fail)
    application.add_error_handler(stop)
    async with serving(application):
        await feed(application, message("burn"))
        assert await sessions.get(1) == Pizza(0, ["ash", "ash"])


async def test_lazy_sessions_need_no_asking() -> None:
    application, storage = build(LazyContext), CountingStorage()
    sessions = SessionManager(Pizza, storage=storage)
    setup_sessions(application, sessions, lazy=True)

    async def fail(update: Update, context: LazyContext) -> None:
        (await context.session).count += 1
        raise BurntError

    async def on_error(update: object, context: LazyContext) -> None:
        pizza = await context.session
        assert pizza == Pizza(0)
        pizza.toppings.append("ash")
        await context.save_session()

    on_text(application, fail)
    application.add_error_handler(on_error)
    async with serving(application):
        await feed(application, message())
        assert await sessions.get(1) == Pizza(0, ["ash"])


async def test_those_registered_before_can_be_removed_and_are_known() -> None:
    application, seen = build(), []

    async def one(update: object, context: Any) -> None:
        seen.append("one")

    async def two(update: object, context: Any) -> None:
        await context.load_session()
        seen.append("two")

    application.add_error_handler(one)
    application.add_error_handler(two)
    setup_sessions(application, SessionManager(Pizza, storage="memory:"))
    application.add_error_handler(one)  # python-telegram-bot takes each once
    assert list(application.error_handlers) == [one, two]
    application.remove_error_handler(one)
    on_text(application, count_up)
    async with serving(application):
        await feed(application, message("burn"))
    assert seen == ["two"]


async def test_the_error_of_an_update_without_a_chat(application: App) -> None:
    seen: list[Exception | None] = []

    async def on_error(update: object, context: Context) -> None:
        await context.load_session()
        with refused(SessionKeyError, "no chat"):
            _ = context.session
        seen.append(context.error)

    application.add_handler(InlineQueryHandler(count_up))
    application.add_error_handler(on_error)
    async with serving(application):
        await feed(application, inline_query())
    assert [type(error) for error in seen] == [SessionKeyError]


async def test_an_error_handler_does_not_make_the_update_a_handled_one() -> None:
    """What failed is handled again when Telegram delivers it again, though its error was noted."""
    application, sessions = build(), SessionManager(Pizza, storage="memory:", deduplicate=10)
    setup_sessions(application, sessions)
    failures = [BurntError()]

    async def on_pizza(update: Update, context: Context) -> None:
        context.session.count += 1
        if failures:
            raise failures.pop()

    on_text(application, on_pizza)
    application.add_error_handler(note_ash)
    update = message()
    async with serving(application):
        await feed(application, update, update, update)
        assert await sessions.get(1) == Pizza(1, ["ash"])


class FailingStorage(CountingStorage):
    """Is gone while `down` names what is asked of it."""

    down = ""

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | None]:
        if self.down == "lock":
            raise StorageUnavailableError("gone")
        return await super().lock_many(requests)

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        if self.down == "commit":
            raise StorageUnavailableError("gone")
        return await super().commit_many(changes)


@pytest.mark.parametrize("down", ["lock", "commit"])
@pytest.mark.parametrize("groups", [1, 2])
async def test_a_storage_that_fails_is_told_once_and_loses_nothing(down: str, groups: int) -> None:
    storage = FailingStorage()
    # A commit that failed may leave its lock behind, for as long as the lease lasts.
    application, sessions = build(), SessionManager(Pizza, storage=storage, lock_lease=2)
    setup_sessions(application, sessions)
    for group in range(groups):
        on_text(application, count_up, group=group)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
        storage.down = down
        await feed(application, message())
        storage.down = ""
        assert [type(error) for error in errors] == [StorageUnavailableError]
        assert await sessions.get(1) == Pizza(groups)
        await feed(application, message())
        assert await sessions.get(1) == Pizza(2 * groups)


async def test_an_error_handler_does_not_wait_once_more_for_a_storage_that_is_away() -> None:
    asked: list[int] = []

    class AwayStorage(CountingStorage):
        async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | None]:
            asked.append(len(requests))
            raise StorageUnavailableError("gone")

    application = persistent(AwayStorage())
    on_text(application, count_up)
    errors = errors_of(application)
    async with serving(application):
        await feed(application, message())
    assert [type(error) for error in errors] == [StorageUnavailableError]
    assert asked == [1]


async def test_a_cancelled_update_stores_nothing_and_lets_the_next_one_in(
    application: App, sessions: SessionManager[Pizza]
) -> None:
    busy = asyncio.Event()

    async def hang(update: Update, context: Context) -> None:
        context.session.count += 1
        busy.set()
        await asyncio.Event().wait()

    on_text(application, hang, group=-1, text="hang")
    async with serving(application), asyncio.timeout(120):
        hanging = asyncio.create_task(application.process_update(Update.de_json(message("hang"), application.bot)))
        await busy.wait()
        waiting = asyncio.create_task(application.process_update(Update.de_json(message(), application.bot)))
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        await waiting
        assert await sessions.get(1) == Pizza(1)

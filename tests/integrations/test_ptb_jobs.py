"""Jobs belong to a chat but to no update: they get its session all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiogram_aids import CountingStorage, Pizza, group, message
from ptb_aids import App, BurntError, Context, builder, feed, on_text, refused, serving
from telegram import Update
from telegram.ext import CommandHandler, ConversationHandler, JobQueue, TypeHandler
from waiting_aids import until

from chatsession import SessionKeyError, SessionManager
from chatsession.integrations.telegram_ext import setup_persistence, setup_sessions


@pytest.fixture
async def application(sessions: SessionManager[Pizza]) -> AsyncIterator[App]:
    """An application with jobs that runs."""
    application = builder().job_queue(JobQueue()).build()
    setup_sessions(application, sessions)
    async with serving(application):
        yield application


class Ran:
    """Lets a test wait for jobs."""

    def __init__(self, application: App) -> None:
        self._application = application
        self.errors: list[Exception | None] = []
        application.add_error_handler(self._note)

    async def _note(self, update: object, context: Context) -> None:
        await context.load_session()
        context.session.toppings.append("ash")
        self.errors.append(context.error)

    async def now(self, callback: Any, **of: Any) -> None:
        job = self._application.job_queue.run_once(callback, 3600, **of)
        await job.run(self._application)
        assert job.callback is callback
        job.schedule_removal()


@pytest.fixture
def ran(application: App) -> Ran:
    return Ran(application)


async def count(context: Context) -> None:
    context.session.count += 1


async def burn(context: Context) -> None:
    context.session.count += 1
    raise BurntError


async def test_a_job_changes_the_session_of_its_chat(ran: Ran, sessions: SessionManager[Pizza]) -> None:
    await ran.now(count, chat_id=7)
    await ran.now(count, chat_id=7)
    assert await sessions.get(7) == Pizza(2)
    assert ran.errors == []


async def test_by_the_clock(application: App, sessions: SessionManager[Pizza]) -> None:
    times, enough = [], asyncio.Event()

    async def tick(context: Context) -> None:
        await count(context)
        times.append(context.session.count)
        if len(times) == 3:
            context.job.schedule_removal()  # type: ignore[union-attr] # it is one
            enough.set()

    application.job_queue.run_repeating(tick, 0.01, chat_id=7)
    async with asyncio.timeout(120):
        await enough.wait()
        await until(lambda: not sessions.runtime.active)
    assert times == [1, 2, 3]
    assert await sessions.get(7) == Pizza(3)


async def test_a_job_waits_for_the_update_that_scheduled_it(application: App, sessions: SessionManager[Pizza]) -> None:
    """It runs in what that update left behind, not in that update, which is done."""
    seen, go_on = asyncio.Event(), asyncio.Event()

    async def on_pizza(update: Update, context: Context) -> None:
        context.session.count += 1
        late = {"misfire_grace_time": None}  # or a job that a busy machine begins a second too late is left out
        context.job_queue.run_once(later, 0, chat_id=1, job_kwargs=late)  # type: ignore[union-attr] # there is one
        await go_on.wait()
        context.session.count += 1

    async def later(context: Context) -> None:
        assert context.session == Pizza(2)
        context.session.toppings.append("later")
        seen.set()

    on_text(application, on_pizza)
    async with asyncio.timeout(120):
        feeding = asyncio.create_task(feed(application, message()))
        await until(lambda: sessions.runtime.coordinator.queue.has_waiters("1"))
        go_on.set()
        await feeding
        await seen.wait()
        await until(lambda: not sessions.runtime.active)
    assert await sessions.get(1) == Pizza(2, ["later"])


async def test_a_job_that_fails_stores_nothing_and_its_error_handler_has_its_session(
    ran: Ran, sessions: SessionManager[Pizza]
) -> None:
    await ran.now(burn, chat_id=7)
    assert await sessions.get(7) == Pizza(0, ["ash"])
    assert [type(error) for error in ran.errors] == [BurntError]


async def test_a_job_of_no_chat_runs_but_has_no_session(ran: Ran, storage: CountingStorage) -> None:
    seen: list[str] = []

    async def plain(context: Context) -> None:
        seen.append("ran")
        with refused(SessionKeyError, "no chat"):
            await count(context)

    await ran.now(plain, user_id=5)
    assert (seen, ran.errors) == (["ran"], [])
    assert storage.calls == {}


@pytest.mark.parametrize("handled", [True, False])
async def test_the_time_out_of_a_conversation_has_the_session_of_its_chat(
    application: App, sessions: SessionManager[Pizza], storage: CountingStorage, handled: bool
) -> None:
    async def order(update: Update, context: Context) -> str:
        context.session.count += 1
        return "topping"

    async def too_late(update: Update, context: Context) -> None:
        assert context.session == Pizza(1), "what was stored in the meantime is there"
        context.session.toppings.append("cold")

    entry: list[Any] = [CommandHandler("order", order)]
    states: dict[object, Any] = {ConversationHandler.TIMEOUT: [TypeHandler(Update, too_late)]} if handled else {}
    asking = ConversationHandler(entry, {"topping": [], **states}, [], conversation_timeout=3600)
    application.add_handler(asking)
    ran = Ran(application)
    await feed(application, message("/order", chat=group()))
    storage.calls.clear()
    (job,) = application.job_queue.jobs()
    await job.run(application)
    assert ran.errors == []
    assert await sessions.get(-100) == Pizza(1, ["cold"] if handled else [])
    if not handled:
        assert storage.calls == {"read": 1}, "that of this test"


@pytest.mark.parametrize("persistent", [True, False])
async def test_a_time_out_is_not_taken_for_its_last_update_again(storage: CountingStorage, persistent: bool) -> None:
    """It comes with the update that it follows, which the session has seen."""
    application = builder().job_queue(JobQueue()).build()
    sessions = SessionManager(Pizza, storage=storage, deduplicate=10)
    setup_sessions(application, sessions)
    if persistent:
        setup_persistence(application, storage, deduplicate=10)

    async def order(update: Update, context: Context) -> str:
        context.session.count += 1
        return "topping"

    async def too_late(update: Update, context: Context) -> None:
        context.session.toppings.append("cold")

    states: dict[object, Any] = {"topping": [], ConversationHandler.TIMEOUT: [TypeHandler(Update, too_late)]}
    entry: list[Any] = [CommandHandler("order", order)]
    named: Any = {"name": "asking", "persistent": True} if persistent else {}
    application.add_handler(ConversationHandler(entry, states, [], conversation_timeout=3600, **named))
    async with serving(application):
        await feed(application, message("/order"))
        now = storage.now
        storage.now = lambda: now() + 3601  # type: ignore[method-assign]
        (job,) = application.job_queue.jobs()  # type: ignore[union-attr] # there is one
        await job.run(application)
        assert await sessions.get(1) == Pizza(1, ["cold"])

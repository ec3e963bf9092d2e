"""A handler that fails leaves no trace; aiogram's control flow is no failure; errors reach their handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from aiogram import Dispatcher
from aiogram.dispatcher.event.bases import UNHANDLED, CancelHandler, SkipHandler
from aiogram.fsm.context import FSMContext
from aiogram.fsm.storage.base import StorageKey
from aiogram.types import ErrorEvent, Message, TelegramObject
from aiogram_aids import BOT, CountingStorage, Pizza, inline_query, message

from chatsession import SessionEncodeError, SessionError, SessionKeyError, SessionManager, StorageUnavailableError
from chatsession.integrations.aiogram import SessionContext, setup_fsm, setup_sessions
from chatsession.storages import Change, Locked, LockRequest, Outcome


class BurntError(Exception):
    """What a handler of these tests raises."""


def burn_pizza(dp: Dispatcher) -> None:
    """Handlers that count, and fail at the word `burn`."""

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1
        if message.text == "burn":
            raise BurntError


async def test_a_failing_handler_stores_nothing(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    burn_pizza(dp)
    await dp.feed_raw_update(BOT, message())
    with pytest.raises(BurntError):
        await dp.feed_raw_update(BOT, message("burn"))
    assert await sessions.get(1) == Pizza(1)
    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(2)


async def test_an_error_that_is_handled_stores_nothing_either(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    burn_pizza(dp)

    @dp.errors()
    async def on_error(event: ErrorEvent) -> str:
        assert isinstance(event.exception, BurntError)
        return "sorry"

    assert await dp.feed_raw_update(BOT, message("burn")) == "sorry"
    assert await sessions.get(1) is None


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_failing_handler_whose_error_a_middleware_catches(
    sessions: SessionManager[Pizza], storage: CountingStorage, place: str
) -> None:
    async def forgive(handler: Any, event: TelegramObject, data: dict[str, Any]) -> Any:
        with suppress(BurntError):
            return await handler(event, data)
        assert await data["ctx"].load_session() == Pizza(), "loaded again"
        return "sorry"

    dp = Dispatcher()
    fsm = setup_fsm(dp, storage)
    if place == "before":
        dp.message.middleware(forgive)
    setup_sessions(dp, sessions)
    if place == "after":
        dp.message.middleware(forgive)

    @dp.message()
    async def on_pizza(message: Message, session: Pizza, state: FSMContext) -> None:
        session.count += 1
        await state.set_state("burnt")
        raise BurntError

    assert await dp.feed_raw_update(BOT, message()) == "sorry"
    assert await sessions.get(1) == Pizza(), "which the middleware has loaded"
    assert await fsm.get_state(StorageKey(42, 1, 1)) is None


async def test_a_middleware_that_calls_a_failing_handler_again(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message.middleware()
    async def try_again(handler: Any, event: TelegramObject, data: dict[str, Any]) -> Any:
        with suppress(BurntError):
            return await handler(event, data)
        return await handler(event, data)

    attempts = 0

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        nonlocal attempts
        attempts += 1
        session.count += 1
        if attempts == 1:
            raise BurntError

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1), "and not 2"


async def test_an_error_handler_that_names_neither_costs_nothing(dp: Dispatcher, storage: CountingStorage) -> None:
    @dp.message()
    async def on_pizza(message: Message) -> None:
        raise BurntError

    @dp.errors()
    async def on_error(event: ErrorEvent) -> None: ...

    await dp.feed_raw_update(BOT, message())
    assert storage.calls == {}


async def test_an_error_handler_gets_a_session_of_its_own(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    burn_pizza(dp)

    @dp.errors()
    async def on_error(event: ErrorEvent, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        assert session == Pizza(1), "what the failed handler did is gone"
        assert ctx.session is session
        session.toppings.append("ash")

    await dp.feed_raw_update(BOT, message())
    await dp.feed_raw_update(BOT, message("burn"))
    assert await sessions.get(1) == Pizza(1, ["ash"])


async def test_an_error_handler_that_fails_stores_nothing(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    burn_pizza(dp)

    @dp.errors()
    async def on_error(event: ErrorEvent, session: Pizza) -> None:
        session.toppings.append("ash")
        raise BurntError("again")

    with pytest.raises(BurntError, match="again"):
        await dp.feed_raw_update(BOT, message("burn"))
    async with sessions.open(1) as s:
        assert not s.exists


async def test_an_error_handler_that_skips_commits(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    burn_pizza(dp)

    @dp.errors()
    async def note(event: ErrorEvent, session: Pizza) -> None:
        session.toppings.append("ash")
        raise SkipHandler

    @dp.errors()
    async def on_error(event: ErrorEvent, session: Pizza) -> list[str]:
        return session.toppings

    assert await dp.feed_raw_update(BOT, message("burn")) == ["ash"]
    assert await sessions.get(1) == Pizza(0, ["ash"])


async def test_the_error_of_an_update_without_a_chat(dp: Dispatcher) -> None:
    @dp.inline_query()
    async def on_inline(query: object, session: Pizza) -> None: ...

    @dp.errors()
    async def on_error(event: ErrorEvent, ctx: SessionContext[Pizza]) -> str:
        assert isinstance(event.exception, SessionKeyError)
        with pytest.raises(SessionKeyError, match="no chat"):
            _ = ctx.session
        return "sorry"

    assert await dp.feed_raw_update(BOT, inline_query()) == "sorry"


async def test_skip_handler_falls_to_the_next_in_one_unit_of_work(
    dp: Dispatcher, sessions: SessionManager[Pizza], storage: CountingStorage
) -> None:
    @dp.message()
    async def first(message: Message, session: Pizza) -> None:
        session.count += 1
        raise SkipHandler

    @dp.message()
    async def second(message: Message, session: Pizza) -> None:
        assert session.count == 1
        session.count += 1

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(2)
    assert storage.calls["lock"] == storage.calls["put"] == 1


async def test_what_a_skipping_handler_assigned_is_what_the_next_one_gets(dp: Dispatcher) -> None:
    @dp.message()
    async def first(message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
        ctx.session = Pizza(5)
        raise SkipHandler

    @dp.message()
    async def second(message: Message, session: Pizza) -> int:
        return session.count

    assert await dp.feed_raw_update(BOT, message()) == 5


async def test_skip_handler_commits_if_nobody_else_handles(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message()
    async def only(message: Message, session: Pizza) -> None:
        session.count += 1
        raise SkipHandler

    assert await dp.feed_raw_update(BOT, message()) is UNHANDLED
    assert await sessions.get(1) == Pizza(1)


async def test_cancel_handler_commits(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1
        raise CancelHandler

    with pytest.raises(CancelHandler):
        await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


async def test_a_later_handler_that_fails_takes_the_earlier_ones_change_with_it(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    @dp.message()
    async def first(message: Message, session: Pizza) -> None:
        session.count += 1
        raise SkipHandler

    @dp.message()
    async def second(message: Message) -> None:
        raise BurntError

    with pytest.raises(BurntError):
        await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) is None


async def test_a_cancelled_update_stores_nothing_and_lets_the_next_one_in(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    busy = asyncio.Event()

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1
        if message.text == "hang":
            busy.set()
            await asyncio.Event().wait()

    hanging = asyncio.create_task(dp.feed_raw_update(BOT, message("hang")))
    await busy.wait()
    waiting = asyncio.create_task(dp.feed_raw_update(BOT, message()))
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    await asyncio.wait_for(waiting, 120)
    assert await sessions.get(1) == Pizza(1)


async def test_an_update_that_is_cancelled_while_it_waits_leaves_no_lock(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    busy, go_on = asyncio.Event(), asyncio.Event()

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1
        if message.text == "slow":
            busy.set()
            await go_on.wait()

    slow = asyncio.create_task(dp.feed_raw_update(BOT, message("slow")))
    await busy.wait()
    waiting = asyncio.create_task(dp.feed_raw_update(BOT, message()))
    await asyncio.sleep(0)
    waiting.cancel()
    go_on.set()
    await slow
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(2)


async def test_the_same_chat_opened_again_within_its_handler_is_an_error_at_once(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        if message.text == "again":
            async with sessions.open(1):
                pass

    with pytest.raises(SessionError, match="this task or thread has it open already"):
        await dp.feed_raw_update(BOT, message("again"))


async def test_a_value_that_cannot_be_stored_reaches_the_error_handlers(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    seen: list[Exception] = []

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1
        if message.text == "poison":
            session.toppings.append(object())  # type: ignore[arg-type]

    @dp.errors()
    async def on_error(event: ErrorEvent, session: Pizza) -> None:
        assert session == Pizza(1)
        seen.append(event.exception)

    await dp.feed_raw_update(BOT, message())
    await dp.feed_raw_update(BOT, message("poison"))
    assert isinstance(seen[0], SessionEncodeError)
    assert await sessions.get(1) == Pizza(1)


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
async def test_a_storage_that_fails_reaches_the_error_handlers_and_loses_nothing(down: str) -> None:
    storage = FailingStorage()
    # A commit that failed may leave its lock behind, for as long as the lease lasts.
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=storage, lock_lease=2)
    setup_sessions(dp, sessions)
    burn_pizza(dp)
    seen: list[Exception] = []

    @dp.errors()
    async def on_error(event: ErrorEvent) -> None:
        seen.append(event.exception)

    await dp.feed_raw_update(BOT, message())
    storage.down = down
    await dp.feed_raw_update(BOT, message())
    storage.down = ""
    assert [type(error) for error in seen] == [StorageUnavailableError]
    assert await sessions.get(1) == Pizza(1)
    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(2)

"""aiogram, fed with updates as if they had come from Telegram."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec
from aiogram import Bot, Dispatcher
from aiogram.fsm.context import FSMContext
from aiogram.types import Message, Update

from chatsession import SessionManager
from chatsession.integrations.aiogram import setup_fsm, setup_sessions
from chatsession.storages import Storage
from tools.benchmarks._chats import CHATS, total_of
from tools.benchmarks._measure import Run, Running, in_flight
from tools.benchmarks._meters import Meter
from tools.benchmarks._pizza import Pizza


def feeding(dp: Dispatcher, flight: int, chats: int = CHATS) -> Run:
    """Gives the dispatcher messages from so many chats in turn."""
    bot = Bot("42:TEST")
    updates = [_update(number, bot) for number in range(chats)]
    return lambda count: in_flight(flight, count, lambda number: dp.feed_update(bot, updates[number % chats]))


@asynccontextmanager
async def alone(flight: int = 1) -> AsyncGenerator[Running]:
    """aiogram without any state, its own FSM turned off."""
    dp = Dispatcher(disable_fsm=True)
    total = 0

    @dp.message()
    async def handler(message: Message) -> None:
        nonlocal total
        total += 1

    async def counted() -> int:
        return total

    yield Running(feeding(dp, flight), counted)


@asynccontextmanager
async def with_sessions(storage: Storage | str, flight: int = 1, meter: Meter | None = None) -> AsyncGenerator[Running]:
    """aiogram with our sessions, one changed by every update."""
    dp = Dispatcher(disable_fsm=True)
    async with SessionManager(Pizza, storage=storage) as sessions:
        setup_sessions(dp, sessions)

        @dp.message()
        async def handler(message: Message, session: Pizza) -> None:
            session.count += 1

        yield Running(feeding(dp, flight), lambda: total_of(sessions), meter)


def with_fsm(dp: Dispatcher, flight: int = 1, chats: int = CHATS) -> Run:
    """aiogram with its FSM data, the same 300 bytes, wherever the dispatcher keeps it."""

    @dp.message()
    async def handler(message: Message, state: FSMContext) -> None:
        data = await state.get_data() or msgspec.to_builtins(Pizza())
        data["count"] += 1
        await state.set_data(data)

    return feeding(dp, flight, chats)


@asynccontextmanager
async def with_setup_fsm(storage: Storage | str, flight: int = 1) -> AsyncGenerator[Running]:
    """aiogram with its FSM data on one of our storages, one unit of work for each update."""
    dp = Dispatcher()
    fsm = setup_fsm(dp, storage)

    async def counted() -> int:
        return sum([record.data["count"] async for _, record in fsm.sessions.entries()])

    await fsm.start()
    try:
        yield Running(with_fsm(dp, flight), counted)
    finally:
        await fsm.close()


def _update(number: int, bot: Bot) -> Update:
    user = {"id": number + 1, "is_bot": False, "first_name": "Ann"}
    message = {"message_id": 1, "date": 0, "chat": {"id": number + 1, "type": "private"}, "from": user, "text": "hi"}
    return Update.model_validate({"update_id": number, "message": message}, context={"bot": bot})

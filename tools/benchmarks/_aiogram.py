"""aiogram, fed with updates as if they had come from Telegram."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiogram import Bot, Dispatcher
from aiogram.types import Message, Update

from chatsession import SessionManager
from chatsession.integrations.aiogram import setup_sessions
from tools.benchmarks._chats import CHATS
from tools.benchmarks._measure import Run, Running, in_flight
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


def with_sessions(sessions: SessionManager[Pizza], flight: int = 1) -> Run:
    """aiogram with our sessions, one changed by every update."""
    dp = Dispatcher(disable_fsm=True)
    setup_sessions(dp, sessions)

    @dp.message()
    async def handler(message: Message, session: Pizza) -> None:
        session.count += 1

    return feeding(dp, flight)


def _update(number: int, bot: Bot) -> Update:
    user = {"id": number + 1, "is_bot": False, "first_name": "Ann"}
    message = {"message_id": 1, "date": 0, "chat": {"id": number + 1, "type": "private"}, "from": user, "text": "hi"}
    return Update.model_validate({"update_id": number, "message": message}, context={"bot": bot})

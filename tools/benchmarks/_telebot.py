"""pyTelegramBotAPI, fed with updates as if they had come from Telegram."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from telebot.async_telebot import AsyncTeleBot
from telebot.asyncio_storage import StateMemoryStorage
from telebot.types import Message, Update

from chatsession import SessionManager
from chatsession.integrations.telebot import setup_sessions
from tools.benchmarks._chats import CHATS, total_of
from tools.benchmarks._measure import Run, Running, in_flight
from tools.benchmarks._pizza import Pizza


@asynccontextmanager
async def alone(flight: int = 1) -> AsyncGenerator[Running]:
    """pyTelegramBotAPI without any state."""
    bot, total = AsyncTeleBot("42:TEST"), 0

    @bot.message_handler()
    async def handler(message: Message) -> None:
        nonlocal total
        total += 1

    async def counted() -> int:
        return total

    yield Running(_feeding(bot, flight), counted)


@asynccontextmanager
async def with_sessions(storage: str, flight: int = 1) -> AsyncGenerator[Running]:
    """pyTelegramBotAPI with our sessions, one changed by every update."""
    bot, sessions = AsyncTeleBot("42:TEST"), SessionManager(Pizza, storage=storage)
    setup_sessions(bot, sessions)

    @bot.message_handler()
    async def handler(message: Message, session: Pizza) -> None:
        session.count += 1

    async with sessions:
        yield Running(_feeding(bot, flight), lambda: total_of(sessions))


@asynccontextmanager
async def with_states(flight: int = 1) -> AsyncGenerator[Running]:
    """The data of `StateMemoryStorage`, by `retrieve_data`: nothing keeps two updates of a user apart."""
    storage = StateMemoryStorage()
    bot: Any = AsyncTeleBot("42:TEST", state_storage=storage)
    for number in range(CHATS):
        await bot.set_state(number + 1, "eating")
        await bot.add_data(number + 1, **asdict(Pizza()))

    @bot.message_handler()
    async def handler(message: Any) -> None:
        async with bot.retrieve_data(message.from_user.id, message.chat.id) as data:
            data["count"] += 1

    async def counted() -> int:
        return sum(record["data"]["count"] for record in storage.data.values())

    yield Running(_feeding(bot, flight), counted)


def _feeding(bot: Any, flight: int) -> Run:
    updates = [[Update.de_json(_update(number))] for number in range(CHATS)]
    return lambda count: in_flight(flight, count, lambda n: bot.process_new_updates(updates[n % CHATS]))


def _update(number: int) -> dict[str, Any]:
    user = {"id": number + 1, "is_bot": False, "first_name": "Ann"}
    chat = {"id": number + 1, "type": "private"}
    return {"update_id": number, "message": {"message_id": 1, "date": 0, "chat": chat, "from": user, "text": "hi"}}

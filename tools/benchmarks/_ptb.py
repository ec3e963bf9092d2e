"""python-telegram-bot, fed with updates as if they had come from Telegram."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from telegram import Update
from telegram.ext import Application, ApplicationBuilder, BasePersistence, MessageHandler, PicklePersistence, filters
from telegram.request import BaseRequest

from chatsession import SessionManager
from chatsession.integrations.telegram_ext import setup_persistence, setup_sessions
from tools.benchmarks._chats import CHATS, total_of
from tools.benchmarks._measure import Run, Running, in_flight
from tools.benchmarks._pizza import Pizza


@asynccontextmanager
async def alone(flight: int = 1) -> AsyncGenerator[Running]:
    """python-telegram-bot without any state."""
    total = 0

    async def handler(update: Update, context: Any) -> None:
        nonlocal total
        total += 1

    async def counted() -> int:
        return total

    async with _application(handler) as application:
        yield Running(_feeding(application, flight), counted)


@asynccontextmanager
async def with_sessions(storage: str, flight: int = 1) -> AsyncGenerator[Running]:
    """python-telegram-bot with our sessions, one changed by every update."""

    async def handler(update: Update, context: Any) -> None:
        context.session.count += 1

    sessions = SessionManager(Pizza, storage=storage)
    async with _application(handler, sessions=sessions) as application:
        yield Running(_feeding(application, flight), lambda: total_of(sessions))


UPDATES_A_FLUSH = 1_200
"""What a bot with 20 updates a second handles between two flushes at `PicklePersistence`'s default interval, 60 s."""


@asynccontextmanager
async def with_chat_data(*, pickled: bool, flight: int = 1) -> AsyncGenerator[Running]:
    """`chat_data`, in memory; or with `PicklePersistence`, flushed after every `UPDATES_A_FLUSH` updates."""

    async def handler(update: Update, context: Any) -> None:
        context.chat_data["count"] += 1

    with tempfile.TemporaryDirectory() as folder:
        persistence = PicklePersistence(Path(folder) / "bot.pickle") if pickled else None
        async with _application(handler, persistence=persistence) as application:
            for chat in range(1, CHATS + 1):
                application.chat_data[chat].update(asdict(Pizza()))
            feed = _feeding(application, flight)

            async def run(updates: int) -> None:
                for done in range(0, updates, UPDATES_A_FLUSH):
                    await feed(min(UPDATES_A_FLUSH, updates - done))
                    await application.update_persistence()

            async def counted() -> int:
                return sum(data["count"] for data in application.chat_data.values())

            yield Running(run, counted)


@asynccontextmanager
async def with_persistence(storage: str, flight: int = 1) -> AsyncGenerator[Running]:
    """`chat_data`, stored in a storage of ours when each update is done."""

    async def handler(update: Update, context: Any) -> None:
        context.chat_data["count"] += 1

    async with _application(handler, stored_in=storage) as application:
        persistence: Any = application.persistence
        for chat in range(1, CHATS + 1):
            await persistence.update_chat_data(chat, asdict(Pizza()))

        async def counted() -> int:
            return sum(data["count"] for data in (await persistence.get_chat_data()).values())

        yield Running(_feeding(application, flight), counted)


@asynccontextmanager
async def _application(
    handler: Any,
    *,
    persistence: BasePersistence[Any, Any, Any] | None = None,
    sessions: SessionManager[Pizza] | None = None,
    stored_in: str | None = None,
) -> AsyncGenerator[Application[Any, Any, Any, Any, Any, Any]]:
    builder: Any = ApplicationBuilder().token("42:TEST").request(_NoServer()).get_updates_request(_NoServer())
    builder = builder.updater(None).job_queue(None).concurrent_updates(True)
    if persistence is not None:
        builder = builder.persistence(persistence)
    application = builder.build()
    if sessions is not None:
        setup_sessions(application, sessions)
    if stored_in is not None:
        setup_persistence(application, stored_in)
    application.add_handler(MessageHandler(filters.ALL, handler))
    async with application:
        yield application


def _feeding(application: Any, flight: int) -> Run:
    updates = [Update.de_json(_update(number), application.bot) for number in range(CHATS)]
    return lambda count: in_flight(flight, count, lambda n: application.process_update(updates[n % CHATS]))


def _update(number: int) -> dict[str, Any]:
    user = {"id": number + 1, "is_bot": False, "first_name": "Ann"}
    chat = {"id": number + 1, "type": "private"}
    return {"update_id": number, "message": {"message_id": 1, "date": 0, "chat": chat, "from": user, "text": "hi"}}


class _NoServer(BaseRequest):
    """A bot's way to Telegram, on which only `getMe` has an answer."""

    read_timeout = 1.0

    async def initialize(self) -> None: ...

    async def shutdown(self) -> None: ...

    async def do_request(self, url: str, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        me = {"id": 42, "is_bot": True, "first_name": "Bot", "username": "pizza_bot"}
        return 200, json.dumps({"ok": True, "result": me}).encode()

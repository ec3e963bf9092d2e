"""One of several processes of a python-telegram-bot application: `python ptb_worker.py URL PREFIX UPDATES SEED LEASE`.

Each update counts for its user and its group, and leads the user's conversation on, so that the state tells whether
the count is even. What was done without an error is told by a line on standard output.
"""

from __future__ import annotations

import asyncio
import random
import sys
from itertools import count
from typing import Any

from telegram import Update
from telegram.ext import ApplicationBuilder, ConversationHandler, MessageHandler, filters
from telegram.request import BaseRequest

from chatsession.integrations.telegram_ext import setup_persistence

USERS, IN_FLIGHT = 10, 50
_numbers = count(1)


class NoServer(BaseRequest):
    """Knows the bot's name only."""

    async def initialize(self) -> None: ...

    async def shutdown(self) -> None: ...

    @property
    def read_timeout(self) -> float:
        return 1.0

    async def do_request(self, url: str, method: str, *_: Any, **__: Any) -> tuple[int, bytes]:
        return 200, b'{"ok": true, "result": {"id": 42, "is_bot": true, "first_name": "Bot", "username": "a_bot"}}'


async def count_up(update: Update, context: Any) -> str:
    user, chat = context.user_data.get("count", 0), context.chat_data.get("count", 0)
    await asyncio.sleep(0)
    context.user_data["count"], context.chat_data["count"] = user + 1, chat + 1
    return "even" if user % 2 else "odd"


def build(url: str, prefix: str, lease: float) -> Any:
    builder: Any = ApplicationBuilder().token("42:x").request(NoServer()).get_updates_request(NoServer())
    application = builder.updater(None).job_queue(None).concurrent_updates(True).build()
    setup_persistence(application, url, prefix=prefix, lock_lease=lease, lock_timeout=300)
    step = MessageHandler(filters.ALL, count_up)
    states: Any = {"even": [step], "odd": [step]}
    application.add_handler(ConversationHandler([step], states, [], name="parity", persistent=True))
    return application


def update_of(user: int) -> dict[str, Any]:
    number = next(_numbers)
    message = {
        "message_id": number,
        "date": 1,
        "chat": {"id": -100 - user % 5, "type": "supergroup", "title": "Group"},
        "from": {"id": user, "is_bot": False, "first_name": "User"},
        "text": "hello",
    }
    return {"update_id": number, "message": message}


async def main(url: str, prefix: str, updates: int, seed: int, lease: float) -> None:
    """Handle so many updates, many at the same time."""
    application = build(url, prefix, lease)
    failed: set[object] = set()

    async def note(update: object, context: Any) -> None:
        failed.add(update)
        print("error", repr(context.error), flush=True)

    application.add_error_handler(note)
    random.seed(seed)
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def handle(user: int) -> None:
        async with slots:
            update = Update.de_json(update_of(user), application.bot)
            await application.process_update(update)
            if update not in failed:
                print("done", user, flush=True)

    async with application:
        await application.start()
        print("ready", flush=True)
        await asyncio.gather(*[handle(random.randrange(1, USERS + 1)) for _ in range(updates)])
        await application.stop()


if __name__ == "__main__":
    _, url, prefix, updates, seed, lease = sys.argv
    asyncio.run(main(url, prefix, int(updates), int(seed), float(lease)))

"""What Python's garbage collector adds to an update of a large session, and what saves most of it.

`python -m tools.garbage` lets an aiogram bot change sessions of 10 KB on SQLite, with 100 updates in flight. Each
figure is the median of three processes, which run in turn.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

from aiogram import Bot, Dispatcher
from aiogram import types as tg
from msgspec import Struct

from chatsession import SessionManager
from chatsession.integrations.aiogram import setup_sessions

_ROUNDS = 3
_CHATS = 200
_IN_FLIGHT = 100
_MESSAGES = 100
_UPDATES = 4_000


@dataclass
class Message:
    """One message of a conversation, in about 100 bytes."""

    role: str
    text: str


@dataclass
class Conversation:
    """What each update changes."""

    messages: list[Message] = field(default_factory=list[Message])


class MessageStruct(Struct, gc=False):
    """The same as a Struct that the collector does not look at."""

    role: str
    text: str


class ConversationStruct(Struct):
    """The same with such messages."""

    messages: list[MessageStruct] = []


class _Way(NamedTuple):
    conversation: type[Any]
    message: type[Any]
    prepare: Callable[[], object]
    """Called when everything is imported and set up."""


WAYS = {
    "dataclasses": _Way(Conversation, Message, gc.collect),
    "dataclasses, gc.freeze()": _Way(Conversation, Message, gc.freeze),
    "dataclasses, gc.disable()": _Way(Conversation, Message, gc.disable),
    "Structs with gc=False": _Way(ConversationStruct, MessageStruct, gc.collect),
    "Structs with gc=False, gc.freeze()": _Way(ConversationStruct, MessageStruct, gc.freeze),
}


async def processor_time(way: str, updates: int = _UPDATES) -> float:
    """Microseconds of processor time for one update.

    Args:
        way: one of `WAYS`.
        updates: how many to measure.
    """
    conversation, message, prepare = WAYS[way]
    dispatcher, bot = Dispatcher(disable_fsm=True), Bot("42:TEST")

    @dispatcher.message()
    async def handler(event: tg.Message, session: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        if not session.messages:
            session.messages = [message("user", "x" * 80) for _ in range(_MESSAGES)]
        session.messages.append(message("user", "y" * 80))
        del session.messages[0]

    with tempfile.TemporaryDirectory() as folder:
        async with SessionManager(conversation, storage=f"sqlite:///{folder}/bot.db") as sessions:
            setup_sessions(dispatcher, sessions)
            await _feed(dispatcher, bot, 2 * _CHATS)
            prepare()
            start = time.process_time()
            await _feed(dispatcher, bot, updates)
            return (time.process_time() - start) / updates * 1e6


async def _feed(dispatcher: Dispatcher, bot: Bot, updates: int) -> None:
    """Handle updates in tasks of their own, as polling does."""
    free = asyncio.Semaphore(_IN_FLIGHT)

    async def handle(number: int) -> None:
        try:
            await dispatcher.feed_raw_update(bot, _update(number))
        finally:
            free.release()

    async with asyncio.TaskGroup() as tasks:
        for number in range(updates):
            await free.acquire()
            tasks.create_task(handle(number))


def _update(number: int) -> dict[str, Any]:
    chat = number % _CHATS + 1
    user = {"id": chat, "is_bot": False, "first_name": "Ann"}
    message = {"message_id": number, "date": 0, "chat": {"id": chat, "type": "private"}, "from": user, "text": "hi"}
    return {"update_id": number, "message": message}


def main() -> int:
    """Print the table, or the figure of the way that is given; returns the exit code."""
    if len(sys.argv) > 1:
        print(asyncio.run(processor_time(sys.argv[1])))
        return 0
    figures: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(_ROUNDS):
        for way, found in figures.items():
            found.append(float(subprocess.check_output([sys.executable, "-m", "tools.garbage", way])))
    for way, found in figures.items():
        print(f"{way:36} {median(found):4.0f} us an update")
    return 0


if __name__ == "__main__":
    sys.exit(main())

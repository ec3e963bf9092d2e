"""The scripted conversation notices a bot that loses or invents pizzas. The bots here run in this process."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import pytest
from aiogram import Bot, Dispatcher, F
from aiogram.types import Message
from playground_bots import polling

from chatsession_playground._bot_process import BotProcess
from chatsession_playground._conversation import Conversation, WrongCountError
from chatsession_playground._stage import Stage
from chatsession_playground._stored import StoredSessions
from chatsession_playground._style import Style
from chatsession_playground.bot_api import BotApiServer

T = TypeVar("T")


class BotInThisProcess:
    """Does for a test what `BotProcess` does; killed by cancelling everything that it does."""

    pid = 1

    def __init__(self, api: BotApiServer, make_dispatcher: Callable[[], Dispatcher]) -> None:
        self._api = api
        self._make_dispatcher = make_dispatcher
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def kill(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def while_alive(self, work: Awaitable[T]) -> T:
        return await work

    async def _run(self) -> None:
        dispatcher = self._make_dispatcher()
        bot: Bot | None = None
        try:
            async with polling(self._api, dispatcher) as bot:
                await asyncio.Event().wait()
        finally:
            for handler in dispatcher._handle_update_tasks:
                handler.cancel()
            await asyncio.gather(*dispatcher._handle_update_tasks, return_exceptions=True)
            if bot is not None:
                await bot.session.close()  # a handler that ran on may have opened it again


class Memory(StoredSessions):
    """Stands in for the SQLite file."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    async def of(self, chat_id: int) -> str | None:
        return json.dumps({"count": self.counts[chat_id]}) if chat_id in self.counts else None

    async def until(self, chat_id: int, satisfied: Callable[[str | None], bool], *, timeout: float) -> str | None:
        """Counts looks, not seconds: of those, a busy machine may have given the bot none."""
        for _ in range(100):
            if satisfied(await self.of(chat_id)):
                break
            await asyncio.sleep(0.005)
        return await self.of(chat_id)


def pizza_bot(memory: Memory, *, store_early: bool = False, forget: int = 0) -> Callable[[], Dispatcher]:
    """A bot that counts in `memory`.

    Args:
        memory: where it counts.
        store_early: whether it stores before it answers, although its handler may not return.
        forget: a count that it loses, storing the one before.
    """
    turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    def make() -> Dispatcher:
        dispatcher = Dispatcher()

        @dispatcher.message(F.text == "🍕")
        async def on_pizza(message: Message) -> None:
            async with turns[message.chat.id]:
                count = memory.counts.get(message.chat.id, 0) + 1
                if store_early:
                    memory.counts[message.chat.id] = count
                await message.answer(f"Pizza number {count} for this chat!")
                memory.counts[message.chat.id] = count - (count == forget)

        @dispatcher.message(F.text == "/reset")
        async def on_reset(message: Message) -> None:
            del memory.counts[message.chat.id]
            await message.answer("Forgotten.")

        return dispatcher

    return make


async def play(api: BotApiServer, memory: Memory, make_dispatcher: Callable[[], Dispatcher]) -> list[str]:
    lines: list[str] = []
    bot = BotInThisProcess(api, make_dispatcher)
    stage = Stage(api, cast("BotProcess", bot), memory)
    try:
        await Conversation(stage, Style(colours=False), lines.append).play()
    finally:
        await bot.kill()
    return lines


async def test_a_bot_that_counts_right_passes(api: BotApiServer) -> None:
    memory = Memory()
    lines = await play(api, memory, pizza_bot(memory))
    assert '   Cem  🍕🍕🍕🍕  Pizza number 4 for this chat!        SQLite: {"count": 4}' in lines
    assert lines[-1].startswith("\n✓ All counts are exact")


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"forget": 2}, "Ann should hear “Pizza number 3 for this chat!”, and hears “Pizza number 2"),
        ({"forget": 5}, 'should hold a count of 5 for Cem, and holds {"count": 4}'),
        ({"store_early": True}, 'should hold a count of 4 for Ann, and holds {"count": 5}'),
    ],
)
async def test_a_bot_that_counts_wrong_is_found_out(api: BotApiServer, faults: dict[str, int], words: str) -> None:
    memory = Memory()
    with pytest.raises(WrongCountError, match=words.replace("{", r"\{")):
        await play(api, memory, pizza_bot(memory, **faults))

"""What a session adds to an update, with no storage but memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec
from aiogram import Bot, Dispatcher
from aiogram.fsm.context import FSMContext
from aiogram.fsm.storage.memory import MemoryStorage as AiogramMemory
from aiogram.fsm.storage.memory import SimpleEventIsolation
from aiogram.types import Message, Update

from benchmarks._measure import Contender, Running
from benchmarks._pizza import Pizza
from chatsession import MemoryStorage, SessionFlavor, SessionManager, lazy_session, session
from chatsession.integrations.aiogram import setup_sessions

CHATS = 1_000
UPDATES = 20_000


class Context(SessionFlavor[Pizza]):
    def __init__(self, chat_id: int) -> None:
        self.chat_id = chat_id


@asynccontextmanager
async def codec() -> AsyncGenerator[Running]:
    """The floor: the value decoded and encoded, and nothing else."""
    decode, encode = msgspec.json.Decoder(Pizza).decode, msgspec.json.Encoder().encode
    stored = [encode(Pizza())]

    async def run(updates: int) -> None:
        for _ in range(updates):
            pizza = decode(stored[0])
            pizza.count += 1
            stored[0] = encode(pizza)

    async def counted() -> int:
        return decode(stored[0]).count

    yield Running(run, counted)


@asynccontextmanager
async def bare_chain() -> AsyncGenerator[Running]:
    """The chain without a session middleware."""
    total = 0

    async def handler() -> None:
        nonlocal total
        total += 1

    async def run(updates: int) -> None:
        for number in range(updates):
            Context(number % CHATS)
            await handler()

    async def counted() -> int:
        return total

    yield Running(run, counted)


@asynccontextmanager
async def changed() -> AsyncGenerator[Running]:
    """The strict middleware, the session changed by every update."""
    middleware = session(Pizza, storage=MemoryStorage())

    async def run(updates: int) -> None:
        for number in range(updates):
            ctx = Context(number % CHATS)

            async def handler(ctx: Context = ctx) -> None:
                ctx.session.count += 1

            await middleware(ctx, handler)

    yield Running(run, lambda: _sum(middleware.manager))


@asynccontextmanager
async def unchanged() -> AsyncGenerator[Running]:
    """The strict middleware, the session only looked at."""
    total = 0
    middleware = session(Pizza, storage=MemoryStorage())
    for chat in range(CHATS):
        await middleware.manager.update(chat, lambda pizza: Pizza(1))

    async def run(updates: int) -> None:
        for number in range(updates):
            ctx = Context(number % CHATS)

            async def handler(ctx: Context = ctx) -> None:
                nonlocal total
                total += ctx.session.count

            await middleware(ctx, handler)

    async def counted() -> int:
        return total

    yield Running(run, counted)


@asynccontextmanager
async def untouched() -> AsyncGenerator[Running]:
    """The lazy middleware, the session never asked for."""
    total = 0
    middleware = lazy_session(Pizza, storage=MemoryStorage())

    async def handler() -> None:
        nonlocal total
        total += 1

    async def run(updates: int) -> None:
        for number in range(updates):
            await middleware(Context(number % CHATS), handler)

    async def counted() -> int:
        return total

    yield Running(run, counted)


@asynccontextmanager
async def aiogram_bare() -> AsyncGenerator[Running]:
    """aiogram alone, its own FSM turned off."""
    dp = Dispatcher(disable_fsm=True)
    total = 0

    @dp.message()
    async def handler(message: Message) -> None:
        nonlocal total
        total += 1

    async def counted() -> int:
        return total

    yield Running(_feeding(dp), counted)


@asynccontextmanager
async def aiogram_session() -> AsyncGenerator[Running]:
    """aiogram with our sessions, one changed by every update."""
    dp = Dispatcher(disable_fsm=True)
    sessions = SessionManager(Pizza, storage=MemoryStorage())
    setup_sessions(dp, sessions)

    @dp.message()
    async def handler(message: Message, session: Pizza) -> None:
        session.count += 1

    yield Running(_feeding(dp), lambda: _sum(sessions))


@asynccontextmanager
async def aiogram_fsm() -> AsyncGenerator[Running]:
    """aiogram with its FSM data, updates of a chat one after another by its `SimpleEventIsolation`."""
    storage = AiogramMemory()
    dp = Dispatcher(storage=storage, events_isolation=SimpleEventIsolation())

    @dp.message()
    async def handler(message: Message, state: FSMContext) -> None:
        data = await state.get_data()
        data["count"] = data.get("count", 0) + 1
        await state.set_data(data)

    async def counted() -> int:
        return sum(record.data.get("count", 0) for record in storage.storage.values())

    yield Running(_feeding(dp), counted)


def _feeding(dp: Dispatcher):
    bot = Bot("42:TEST")
    updates = [_update(number, bot) for number in range(CHATS)]

    async def run(count: int) -> None:
        for number in range(count):
            await dp.feed_update(bot, updates[number % CHATS])

    return run


def _update(number: int, bot: Bot) -> Update:
    user = {"id": number + 1, "is_bot": False, "first_name": "Ann"}
    message = {"message_id": 1, "date": 0, "chat": {"id": number + 1, "type": "private"}, "from": user, "text": "hi"}
    return Update.model_validate({"update_id": number, "message": message}, context={"bot": bot})


async def _sum(sessions: SessionManager[Pizza]) -> int:
    return sum([pizza.count async for _, pizza in sessions.entries()])


def contenders() -> list[Contender]:
    """All of them, floors first."""
    return [
        Contender("msgspec decode + encode", UPDATES, codec),
        Contender("bare (ctx, next) chain", UPDATES, bare_chain),
        Contender("session(), changed", UPDATES, changed),
        Contender("session(), unchanged", UPDATES, unchanged),
        Contender("lazy_session(), untouched", UPDATES, untouched),
        Contender("aiogram, no state", UPDATES // 4, aiogram_bare),
        Contender("aiogram + chatsession", UPDATES // 4, aiogram_session),
        Contender("aiogram + FSMContext, SimpleEventIsolation", UPDATES // 4, aiogram_fsm),
    ]

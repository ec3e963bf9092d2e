"""What a session adds to an update, with no storage but memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

import msgspec
from aiogram import Dispatcher
from aiogram.fsm.context import FSMContext
from aiogram.fsm.storage.memory import MemoryStorage as AiogramMemory
from aiogram.fsm.storage.memory import SimpleEventIsolation
from aiogram.types import Message

from benchmarks import _aiogram
from benchmarks._chats import CHATS, total_of
from benchmarks._group import Goal, Group, versions
from benchmarks._measure import Contender, Running
from benchmarks._pizza import Pizza
from chatsession import MemoryStorage, SessionFlavor, SessionManager, lazy_session, session

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

    yield Running(run, lambda: total_of(middleware.manager))


@asynccontextmanager
async def encrypted() -> AsyncGenerator[Running]:
    """As `changed`, with what is stored encrypted."""
    middleware = session(Pizza, storage=MemoryStorage(), encryption_keys=[bytes(range(32))])

    async def run(updates: int) -> None:
        for number in range(updates):
            ctx = Context(number % CHATS)

            async def handler(ctx: Context = ctx) -> None:
                ctx.session.count += 1

            await middleware(ctx, handler)

    yield Running(run, lambda: total_of(middleware.manager))


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
async def aiogram_session() -> AsyncGenerator[Running]:
    """aiogram with our sessions."""
    sessions = SessionManager(Pizza, storage=MemoryStorage())
    yield Running(_aiogram.with_sessions(sessions), lambda: total_of(sessions))


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

    yield Running(_aiogram.feeding(dp, 1), counted)


CODEC, CHAIN, CHANGED = "msgspec decode + encode", "bare (ctx, next) chain", "session(), changed"
AIOGRAM, AIOGRAM_OURS = "aiogram, no state", "aiogram + chatsession"
AIOGRAM_FSM = "aiogram + FSMContext, SimpleEventIsolation"


@contextmanager
def group() -> Iterator[Group]:
    yield Group(
        "An update in memory, a session of 300 bytes",
        [
            Contender(CODEC, UPDATES, codec),
            Contender(CHAIN, UPDATES, bare_chain),
            Contender(CHANGED, UPDATES, changed),
            Contender("session(), changed, encrypted", UPDATES, encrypted),
            Contender("session(), unchanged", UPDATES, unchanged),
            Contender("lazy_session(), untouched", UPDATES, untouched),
            Contender(AIOGRAM, UPDATES // 4, _aiogram.alone),
            Contender(AIOGRAM_OURS, UPDATES // 4, aiogram_session),
            Contender(AIOGRAM_FSM, UPDATES // 4, aiogram_fsm),
        ],
        versions("msgspec", "aiogram"),
        [
            Goal("what it adds to an update, against decode + encode", (CHANGED, CHAIN), CODEC, at_most=10),
            Goal(
                "what it adds to an update, against what FSMContext with SimpleEventIsolation adds",
                (CHANGED, CHAIN),
                (AIOGRAM_FSM, AIOGRAM),
                at_most=1,
            ),
            Goal(
                "what it adds to aiogram, against what FSMContext with SimpleEventIsolation adds",
                (AIOGRAM_OURS, AIOGRAM),
                (AIOGRAM_FSM, AIOGRAM),
                at_most=1,
            ),
        ],
    )

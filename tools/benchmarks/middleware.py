"""What a session adds to an update, with no storage but memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import msgspec
import uvloop
from aiogram import Dispatcher
from aiogram.fsm.storage.memory import MemoryStorage as AiogramMemory
from aiogram.fsm.storage.memory import SimpleEventIsolation

from chatsession import MemoryStorage
from tools.benchmarks import _aiogram
from tools.benchmarks._chain import Work, bare_chain, strict_changed, strict_unchanged, untouched
from tools.benchmarks._group import Goal, Group, no_slower, versions
from tools.benchmarks._measure import Contender, Running
from tools.benchmarks._pizza import Pizza

CODEC, CHAIN, CHANGED = "msgspec decode + encode", "bare (ctx, next) chain", "session(), changed"
AIOGRAM, AIOGRAM_OURS = "aiogram, no state", "aiogram + chatsession"
AIOGRAM_FSM = "aiogram + FSMContext, SimpleEventIsolation"


@contextmanager
def group() -> Generator[Group]:
    key = [bytes(range(32))]
    yield Group(
        "An update in memory, a session of 300 bytes",
        [
            Contender(CODEC, codec, "floor"),
            Contender(CHAIN, lambda: bare_chain(Work()), "floor"),
            Contender(CHANGED, lambda: strict_changed(MemoryStorage(), Work()), "ours", CHAIN),
            Contender(
                f"{CHANGED}, uvloop",
                lambda: strict_changed(MemoryStorage(), Work()),
                "ours",
                CHAIN,
                loop=uvloop.new_event_loop,
            ),
            Contender(
                f"{CHANGED}, encrypted",
                lambda: strict_changed(MemoryStorage(), Work(encryption_keys=key)),
                "ours",
                CHAIN,
            ),
            Contender("session(), unchanged", lambda: strict_unchanged(MemoryStorage(), Work()), "ours", CHAIN),
            Contender("lazy_session(), untouched", lambda: untouched(MemoryStorage(), Work()), "ours", CHAIN),
            Contender(AIOGRAM, _aiogram.alone, "floor"),
            Contender(AIOGRAM_OURS, lambda: _aiogram.with_sessions(MemoryStorage()), "ours", AIOGRAM),
            Contender(AIOGRAM_FSM, aiogram_fsm, base=AIOGRAM),
        ],
        versions("msgspec", "aiogram", "uvloop"),
        [
            Goal(
                "what it adds to an update, all rules on, against decode + encode",
                (CHANGED, CHAIN),
                CODEC,
                at_most=5,
                why="the rest is the turn of the chat, the unit of work, and the comparison with what is stored",
            ),
            no_slower(
                (CHANGED, CHAIN),
                (AIOGRAM_FSM, AIOGRAM),
                "FSMContext hands out a dictionary that lies in memory; nothing is encoded, and what a failing handler "
                "changed stays",
            ),
            no_slower(
                (AIOGRAM_OURS, AIOGRAM),
                (AIOGRAM_FSM, AIOGRAM),
                "FSMContext copies a dictionary that lies in memory; sessions are decoded, encoded and compared, and "
                "typed on the way",
            ),
        ],
        times=3,
    )


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
async def aiogram_fsm() -> AsyncGenerator[Running]:
    """aiogram with its FSM data, the same 300 bytes, updates of a chat one after another by `SimpleEventIsolation`."""
    storage = AiogramMemory()
    run = _aiogram.with_fsm(Dispatcher(storage=storage, events_isolation=SimpleEventIsolation()))

    async def counted() -> int:
        return sum(record.data.get("count", 0) for record in storage.storage.values())

    yield Running(run, counted)

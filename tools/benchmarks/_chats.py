"""What the groups of all storages do: count a session up, of 1,000 chats, one after the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec

from chatsession import SessionManager, Storage
from tools.benchmarks._measure import Running, in_flight
from tools.benchmarks._meters import Meter
from tools.benchmarks._pizza import Pizza

CHATS = 1_000
IN_FLIGHT = 200

decode = msgspec.json.Decoder(Pizza).decode
_encode = msgspec.json.Encoder().encode


def key_of(number: int) -> str:
    """The chat that an update comes from; as many as are in flight come from different ones."""
    return str(number % CHATS)


def counted_up(stored: bytes | str | None) -> bytes:
    """What is to be stored instead."""
    pizza = decode(stored) if stored else Pizza()
    pizza.count += 1
    return _encode(pizza)


def total(stored: Iterable[bytes | str | None]) -> int:
    """How many updates have been counted in all."""
    return sum(decode(each).count for each in stored if each)


async def total_of(sessions: SessionManager[Pizza]) -> int:
    """The same, of sessions."""
    return sum([pizza.count async for _, pizza in sessions.entries()])


@asynccontextmanager
async def sessions_in(
    storage: Storage, flight: int, meter: Meter | None = None, chats: int = CHATS
) -> AsyncGenerator[Running]:
    """chatsession: exclusive, with locks that hold across processes, and fencing."""
    async with SessionManager(Pizza, storage=storage) as sessions:

        async def handle(number: int) -> None:
            async with sessions.open(number % chats) as s:
                s.data.count += 1

        yield Running(lambda updates: in_flight(flight, updates, handle), lambda: total_of(sessions), meter)


async def in_batches(updates: int, update: Callable[[list[str]], Awaitable[object]]) -> None:
    """So many updates, 200 different chats at a time, one batch after another."""
    for first in range(0, updates, IN_FLIGHT):
        await update([key_of(number) for number in range(first, min(first + IN_FLIGHT, updates))])

"""The middlewares in a `(ctx, next)` chain, on any storage: each kind of work once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from chatsession import (
    LazySessionFlavor,
    SessionFlavor,
    SessionManager,
    SessionOptions,
    Storage,
    multi_session,
)
from tools.benchmarks._chats import CHATS
from tools.benchmarks._measure import Running, in_flight
from tools.benchmarks._meters import Meter
from tools.benchmarks._pizza import SMALL, Pizza, pizzas_of

_FRAGMENTS = ("first", "second", "third")
_NAME = "Quattro stagioni"
"""Of every pizza that is stored before anything is measured."""
_AT_ONCE = 200


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Args:
        flight: updates at the same time.
        chats: that they come from.
        size: bytes of a session.
        prefix: of the keys.
        meter: reads what the storage counts.
        encryption_keys: encrypt what is stored.
        filled: where sessions have been stored for all chats already; whoever stores them adds to it.
    """

    flight: int = 1
    chats: int = CHATS
    size: int = SMALL
    prefix: str = ""
    meter: Meter | None = None
    encryption_keys: Sequence[bytes] = ()
    filled: set[tuple[str, int]] = field(default_factory=set)

    def manager(self, storage: Storage, fragment: str = "") -> SessionManager[Pizza]:
        """Of the sessions that the work is done with."""
        return SessionManager.from_options(
            SessionOptions(
                initial=pizzas_of(self.size),
                type=Pizza,
                storage=storage,
                prefix=self.prefix + fragment,
                encryption_keys=self.encryption_keys,
            )
        )

    async def fill(self, sessions: SessionManager[Pizza]) -> None:
        """Store a session for each chat, unless that has been done."""
        place = (sessions.options.prefix, self.chats)
        if place in self.filled:
            return

        async def store(chat: int) -> None:
            async with sessions.open(chat) as s:
                s.data.name = _NAME

        await for_all(store, self.chats)
        self.filled.add(place)


class Context(SessionFlavor[Pizza]):
    """Of an update."""

    def __init__(self, chat_id: int) -> None:
        self.chat_id = chat_id


class LazyContext(LazySessionFlavor[Pizza]):
    """Of an update, with a session that is not loaded."""

    def __init__(self, chat_id: int) -> None:
        self.chat_id = chat_id


class MultiContext(SessionFlavor[Any]):
    """Of an update, with three sessions."""

    def __init__(self, chat_id: int) -> None:
        self.chat_id = chat_id


@asynccontextmanager
async def bare_chain(work: Work) -> AsyncGenerator[Running]:
    """The chain without a session middleware."""
    total = 0

    async def handle(number: int) -> None:
        ctx = Context(number % work.chats)

        async def handler() -> None:
            nonlocal total
            total += ctx.chat_id >= 0

        await handler()

    async def counted() -> int:
        return total

    yield Running(lambda updates: in_flight(work.flight, updates, handle), counted)


@asynccontextmanager
async def strict_changed(storage: Storage, work: Work) -> AsyncGenerator[Running]:
    """The strict middleware, the session changed by every update."""
    async with work.manager(storage).middleware() as middleware:
        await work.fill(middleware.manager)

        async def handle(number: int) -> None:
            ctx = Context(number % work.chats)

            async def handler() -> None:
                ctx.session.count += 1

            await middleware(ctx, handler)

        yield Running(
            lambda updates: in_flight(work.flight, updates, handle),
            lambda: _counted(middleware.manager, work.chats),
            work.meter,
        )


@asynccontextmanager
async def strict_unchanged(storage: Storage, work: Work) -> AsyncGenerator[Running]:
    """The strict middleware, the session only looked at: an update counts when it saw what is stored."""
    total = 0
    async with work.manager(storage).middleware() as middleware:
        await work.fill(middleware.manager)

        async def handle(number: int) -> None:
            ctx = Context(number % work.chats)

            async def handler() -> None:
                nonlocal total
                total += ctx.session.name == _NAME

            await middleware(ctx, handler)

        async def counted() -> int:
            return total

        yield Running(lambda updates: in_flight(work.flight, updates, handle), counted, work.meter)


@asynccontextmanager
async def untouched(storage: Storage, work: Work) -> AsyncGenerator[Running]:
    """The lazy middleware, the session never asked for."""
    total = 0
    async with work.manager(storage).lazy_middleware() as middleware:

        async def handle(number: int) -> None:
            ctx = LazyContext(number % work.chats)

            async def handler() -> None:
                nonlocal total
                total += ctx.chat_id >= 0

            await middleware(ctx, handler)

        async def counted() -> int:
            return total

        yield Running(lambda updates: in_flight(work.flight, updates, handle), counted, work.meter)


@asynccontextmanager
async def multi(storage: Storage, work: Work) -> AsyncGenerator[Running]:
    """Three sessions of that size each, all changed by every update."""
    managers = {name: work.manager(storage, f"{name}:") for name in _FRAGMENTS}
    async with multi_session(**managers) as middleware:
        for manager in managers.values():
            await work.fill(manager)

        async def handle(number: int) -> None:
            ctx = MultiContext(number % work.chats)

            async def handler() -> None:
                ctx.session.first.count += 1
                ctx.session.second.count += 1
                ctx.session.third.count += 1

            await middleware(ctx, handler)

        async def counted() -> int:
            return min([await _counted(manager, work.chats) for manager in managers.values()])

        yield Running(lambda updates: in_flight(work.flight, updates, handle), counted, work.meter)


async def _counted(sessions: SessionManager[Pizza], chats: int) -> int:
    """How many updates the stored sessions of these chats have counted."""
    total = 0

    async def add(chat: int) -> None:
        nonlocal total
        stored = await sessions.get(chat)
        total += stored.count if stored else 0

    await for_all(add, chats)
    return total


async def for_all(act: Callable[[int], Awaitable[None]], chats: int) -> None:
    """Do something for each chat, for 200 of them at the same time."""
    for first in range(0, chats, _AT_ONCE):
        await asyncio.gather(*(act(chat) for chat in range(first, min(first + _AT_ONCE, chats))))

"""Mistakes of users: the type checker must refuse each line that ends in a mark, and no other one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

from aiogram import Dispatcher, Router
from aiogram.types import Message

from chatsession import (
    LazySessionFlavor,
    SessionAttribute,
    SessionFlavor,
    SessionManager,
    SessionOptions,
    StorageAdapter,
    multi_session,
    session,
)
from chatsession.integrations.aiogram import LazySessionContext, SessionContext, setup_sessions


@dataclass
class Pizza:
    count: int = 0


class Sized:
    def __init__(self, size: int) -> None:
        self.size = size


sessions = SessionManager(Pizza)
counters = SessionManager(int)
maybe = SessionManager(type=Pizza)

assert_type(sessions, SessionManager[int])  # error
SessionManager(Sized)  # error
of_both: SessionManager[Pizza] = SessionManager(Pizza, type=int)  # error
SessionManager(Pizza, time_to_live=60)  # error
SessionManager(Pizza, concurrency="exlusive")  # error
SessionManager(Pizza, ttl="1h")  # error
SessionManager(Pizza, storage=b"memory:")  # error
SessionManager(Pizza, get_session_key=lambda ctx: 1.5)  # error
SessionOptions(initial=Pizza, prefix=1)  # error
wrong: SessionManager[int] = SessionManager(Pizza)  # error


async def outside_of_any_update() -> None:
    sessions.open(1.5)  # error
    async with sessions.open("1") as s:
        s.data.count = "many"  # error
        s.data.cuont = 1  # error
        s.data = 5  # error
        s.key = "2"  # error
        s.exists = False  # error
        s.data = Pizza()
    async with counters.open("1") as counter:
        counter.data += "1"  # error
        counter.data = "1"  # error
    async with maybe.open("1") as s:
        s.data.count += 1  # error
    sessions.open_many("1", "2")  # error
    await sessions.update("1", lambda count: count + 1)  # error
    await counters.update("1", lambda count: str(count))  # error
    print((await sessions.get("1")).count)  # error
    async for key, pizza in sessions.entries():
        pizza.counter = key  # error


class Context(SessionFlavor[Pizza]):
    cart = SessionAttribute[list[str]]()


class LazyContext(LazySessionFlavor[Pizza]):
    pass


async def in_a_chain(ctx: Context, lazy_ctx: LazyContext) -> None:
    ctx.session.count = "many"  # error
    ctx.session = 5  # error
    ctx.cart = [1]  # error
    ctx.cart.append(1)  # error
    await ctx.session  # error
    lazy_ctx.session.count += 1  # error
    lazy_ctx.session = 5  # error
    (await lazy_ctx.session).count = "many"  # error
    await session(Pizza)(ctx)  # error
    multi_session(cart=list[str])  # error


dp = Dispatcher()
setup_sessions(dp, Pizza)  # error
setup_sessions(Router(), sessions)  # error
setup_sessions(dp, sessions, True)  # error


async def on_pizza(message: Message, ctx: SessionContext[Pizza], lazy_ctx: LazySessionContext[Pizza]) -> None:
    ctx.session.count = "many"  # error
    ctx.session = 5  # error
    await ctx.session  # error
    lazy_ctx.session.count += 1  # error
    lazy_ctx.session = 5  # error
    (await lazy_ctx.load_session()).count = "many"  # error


class ReadOnly:
    def read(self, key: str) -> Pizza | None: ...


class OfNumbers:
    def read(self, key: str) -> int | None: ...

    def write(self, key: str, value: int) -> None: ...

    def delete(self, key: str) -> None: ...


adapter: StorageAdapter[Pizza] = ReadOnly()  # error
SessionManager(Pizza, storage=ReadOnly())  # error
SessionOptions(initial=Pizza, storage=OfNumbers())  # error
SessionManager(Pizza, storage=OfNumbers())  # error

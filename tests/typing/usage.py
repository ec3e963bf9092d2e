"""Code of users, for the type checker alone: `session.count` is known to be an `int`, however a session is had."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict, assert_type

from aiogram import Dispatcher
from aiogram.types import Message
from msgspec import Struct

from chatsession import (
    LazySessionFlavor,
    MemoryStorage,
    Session,
    SessionAttribute,
    SessionFlavor,
    SessionManager,
    SessionOptions,
    StorageAdapter,
    lazy_session,
    multi_session,
    open_storage,
    per_topic,
    per_user,
    session,
)
from chatsession.integrations.aiogram import LazySessionContext, SessionContext, UpdateContext, setup_sessions


@dataclass
class Pizza:
    count: int = 0


class Box(Struct):
    count: int = 0


class Slice(TypedDict, total=False):
    count: int


def fresh_pizza() -> Pizza:
    return Pizza(8)


# The manager knows its type, wherever that comes from.

of_class = SessionManager(Pizza)
of_function = SessionManager(fresh_pizza, storage="sqlite:///bot.db")
of_lambda = SessionManager(lambda: Pizza(8))
of_annotated_lambda: SessionManager[dict[str, int]] = SessionManager(lambda: {"Ann": 7})
of_partial = SessionManager(functools.partial(Pizza, 8))
of_type = SessionManager(type=Pizza)
of_both = SessionManager(lambda: Pizza(8), type=Pizza, ttl=timedelta(days=1))
of_struct = SessionManager(Box, storage=MemoryStorage(time_to_live=60))
of_typed_dict = SessionManager(Slice, get_session_key=per_user)
of_int = SessionManager(int, concurrency="optimistic")
of_list = SessionManager(list[str], storage=open_storage("memory:"))
of_dict = SessionManager(dict[str, int], prefix="ages:", on_decode_error="quarantine")
of_anything = SessionManager()
of_options = SessionManager.from_options(SessionOptions(initial=Pizza))

assert_type(of_class, SessionManager[Pizza])
assert_type(of_function, SessionManager[Pizza])
assert_type(of_lambda, SessionManager[Pizza])
assert_type(of_annotated_lambda, SessionManager[dict[str, int]])
assert_type(of_partial, SessionManager[Pizza])
assert_type(of_type, SessionManager[Pizza | None])
assert_type(of_both, SessionManager[Pizza])
assert_type(of_struct, SessionManager[Box])
assert_type(of_typed_dict, SessionManager[Slice])
assert_type(of_int, SessionManager[int])
assert_type(of_list, SessionManager[list[str]])
assert_type(of_dict, SessionManager[dict[str, int]])
assert_type(of_anything, SessionManager[Any])
assert_type(of_options, SessionManager[Pizza])
assert_type(SessionOptions(initial=Pizza), SessionOptions[Pizza])


async def outside_of_any_update() -> None:
    async with of_class as sessions, sessions.open(424242) as s:
        assert_type(s, Session[Pizza])
        assert_type(s.data, Pizza)
        assert_type(s.data.count, int)
        assert_type(s.key, str)
        assert_type(s.exists, bool)
        s.data.count += 1
        s.data = Pizza(2)
        await s.save()
        s.data = None
        await s.release()

    async with of_struct.open("424242") as box, of_typed_dict.open("7") as piece:
        assert_type(box.data.count, int)
        assert_type(piece.data.get("count", 0), int)

    async with of_class.open_many(["1", 2]) as opened:
        assert_type(opened, list[Session[Pizza]])
        assert_type(sum(s.data.count for s in opened), int)

    async with of_int.open("1") as counter:
        assert_type(counter.data, int)
        counter.data += 1

    async with of_list.open("1") as names, of_dict.open("1") as ages:
        assert_type(names.data, list[str])
        assert_type(ages.data["Ann"], int)

    async with of_type.open("1") as maybe:
        assert_type(maybe.data, Pizza | None)
        if maybe.data is None:
            maybe.data = Pizza()


async def update_and_look() -> None:
    def bake(pizza: Pizza) -> Pizza:
        return Pizza(pizza.count + 1)

    def bake_in_place(pizza: Pizza) -> None:
        pizza.count += 1

    async def bake_slowly(pizza: Pizza) -> Pizza:
        return Pizza(pizza.count + 1)

    async def bake_slowly_in_place(pizza: Pizza) -> None:
        pizza.count += 1

    assert_type(await of_class.update("1", bake), Pizza)
    assert_type(await of_class.update("1", bake_in_place), Pizza)
    assert_type(await of_class.update("1", bake_slowly), Pizza)
    assert_type(await of_class.update("1", bake_slowly_in_place), Pizza)
    assert_type(await of_class.update("1", lambda pizza: Pizza(pizza.count + 1)), Pizza)
    assert_type(await of_int.update("1", lambda count: count + 1), int)

    assert_type(await of_class.get("1"), Pizza | None)
    assert_type(await of_type.get("1"), Pizza | None)
    if (pizza := await of_class.get(1)) is not None:
        assert_type(pizza.count, int)

    assert_type(of_class.keys(), AsyncIterator[str])
    async for key, pizza in of_class.entries():
        assert_type(key, str)
        assert_type(pizza.count, int)


# In any (ctx, next) chain.


class Context(SessionFlavor[Pizza]):
    chat_id: int | None = 1
    cart = SessionAttribute[list[str]]()


class LazyContext(LazySessionFlavor[Pizza]):
    chat_id: int | None = 1


async def in_a_chain(ctx: Context, lazy_ctx: LazyContext) -> None:
    async def handler() -> None:
        assert_type(ctx.session, Pizza)
        assert_type(ctx.session.count, int)
        ctx.session.count += 1
        ctx.session = Pizza(2)
        ctx.session = None
        assert_type(ctx.cart, list[str])
        ctx.cart = ["salami"]
        ctx.cart = None
        await ctx.save_session()
        await ctx.release_session()

    async def lazy_handler() -> None:
        assert_type(lazy_ctx.session, Awaitable[Pizza])
        assert_type((await lazy_ctx.session).count, int)
        lazy_ctx.session = Pizza(2)
        lazy_ctx.session = slow_pizza()
        lazy_ctx.session = None

    async def slow_pizza() -> Pizza:
        return Pizza()

    await session(Pizza)(ctx, handler)
    await session(list[str], name="cart", prefix="cart:")(ctx, handler)
    await lazy_session(fresh_pizza, storage="memory:")(lazy_ctx, lazy_handler)
    await of_class.middleware()(ctx, handler)
    await of_class.lazy_middleware()(lazy_ctx, lazy_handler)
    assert_type(session(Pizza).manager, SessionManager[Pizza])
    assert_type(lazy_session(Pizza).manager, SessionManager[Pizza])


class Parts:
    """What `multi_session` puts behind `ctx.session`, for those who want it typed."""

    cart: list[str]
    visits: int


class MultiContext(SessionFlavor[Parts]):
    chat_id = 1


async def several_in_a_chain(ctx: MultiContext) -> None:
    async def handler() -> None:
        assert_type(ctx.session.visits, int)
        ctx.session.visits += 1
        ctx.session.cart.append("salami")
        ctx.session = None

    several = multi_session(
        cart=SessionOptions(initial=list[str], prefix="cart:", get_session_key=per_user),
        visits=SessionManager(int, prefix="visits:"),
    )
    await several(ctx, handler)


# In aiogram.


def key_of_a_bots_chat(ctx: UpdateContext) -> str | None:
    assert_type(ctx.chat_id, int | None)
    assert_type(ctx.bot_id, int)
    return None if ctx.chat_id is None else f"{ctx.bot_id}/{ctx.chat_id}"


async def key_from_afar(ctx: UpdateContext) -> int | None:
    return ctx.user_id


dp = Dispatcher()
setup_sessions(dp, of_class)
setup_sessions(dp, SessionManager(int, name="visits", get_session_key=key_of_a_bots_chat), per_bot=True)
setup_sessions(dp, SessionManager(Box, name="box", get_session_key=key_from_afar), lazy=True)
setup_sessions(dp, SessionManager(Box, name="topic", get_session_key=per_topic))


@dp.message()
async def on_pizza(
    message: Message,
    session: Pizza,
    ctx: SessionContext[Pizza],
    visits: int,
    visits_ctx: SessionContext[int],
    box: Awaitable[Box],
    box_ctx: LazySessionContext[Box],
) -> None:
    session.count += 1
    assert_type(ctx.session, Pizza)
    assert_type(ctx.session.count, int)
    assert_type(await ctx.load_session(), Pizza)
    ctx.session = Pizza(2)
    ctx.session = None
    await ctx.save_session()
    await ctx.release_session()

    visits_ctx.session += visits
    assert_type(visits_ctx.session, int)

    assert_type((await box).count, int)
    assert_type(box_ctx.session, Awaitable[Box])
    assert_type((await box_ctx.session).count, int)
    assert_type(await box_ctx.load_session(), Box)
    box_ctx.session = Box(2)
    box_ctx.session = box
    box_ctx.session = None


# A storage of one's own, sync or async, declared or only of the right shape.


class Shelf:
    def __init__(self) -> None:
        self.values: dict[str, Pizza] = {}

    def read(self, key: str) -> Pizza | None:
        return self.values.get(key)

    def write(self, key: str, value: Pizza) -> None:
        self.values[key] = value

    def delete(self, key: str) -> None:
        del self.values[key]


class Cloud(StorageAdapter[Pizza]):
    async def read(self, key: str, /) -> Pizza | None:
        return None

    async def write(self, key: str, value: Pizza, /) -> None: ...

    async def delete(self, key: str, /) -> bool:
        return True


sync_adapter: StorageAdapter[Pizza] = Shelf()
async_adapter: StorageAdapter[Pizza] = Cloud()
assert_type(SessionManager(Pizza, storage=Shelf()), SessionManager[Pizza])
assert_type(SessionManager(Pizza, storage=Cloud()), SessionManager[Pizza])
assert_type(SessionOptions(initial=Pizza, storage=Shelf()), SessionOptions[Pizza])

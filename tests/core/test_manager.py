"""`SessionManager` and `multi_session`: update, get, keys, entries, options; rule 9."""

# ruff: noqa: SIM118 - small blocks read best where they stand

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any, TypedDict, cast

import pytest
from core_aids import Context, LazyContext, Pizza, by_open, count_one, put, steps, value_of

from chatsession import (
    MemoryStorage,
    SessionAttribute,
    SessionConflictError,
    SessionError,
    SessionFlavor,
    SessionManager,
    SessionOptions,
    lazy_session,
    multi_session,
    per_chat,
    per_user,
    session,
)
from chatsession.storages import Action


@pytest.fixture
def counters(storage: Any) -> SessionManager[int]:
    return SessionManager(int, storage=storage)


async def test_update_returns_what_it_stored(counters: SessionManager[int]) -> None:
    assert await counters.update("chat", lambda count: count + 1) == 1
    assert await counters.update("chat", lambda count: count + 1) == 2
    assert await counters.get("chat") == 2


async def test_update_takes_async_functions_and_changes_in_place(storage: Any) -> None:
    pizzas = SessionManager(Pizza, storage=storage)

    async def order(pizza: Pizza) -> None:
        await asyncio.sleep(0)
        pizza.count += 1

    def top(pizza: Pizza) -> None:
        pizza.toppings.append("olives")

    await pizzas.update("chat", order)
    assert await pizzas.update("chat", top) == Pizza(1, ["olives"])


async def test_update_that_fails_writes_nothing(storage: Any, counters: SessionManager[int]) -> None:
    with pytest.raises(ZeroDivisionError):
        await counters.update("chat", lambda count: count // 0)
    assert storage.writes == []


@pytest.mark.parametrize("concurrency", ["exclusive", "optimistic"])
async def test_update_loses_none(storage: Any, concurrency: Any) -> None:
    counters = SessionManager(int, storage=storage, concurrency=concurrency)
    await asyncio.gather(*(counters.update("chat", lambda count: count + 1) for _ in range(30)))
    assert await counters.get("chat") == 30


async def test_update_runs_again_with_fresh_data_after_a_conflict(storage: Any) -> None:
    counters = SessionManager(int, storage=storage, concurrency="optimistic")
    seen: list[int] = []

    async def slow(count: int) -> int:
        seen.append(count)
        if len(seen) < 3:
            await counters.update("chat", lambda count: count + 10)
        return count + 1

    assert await counters.update("chat", slow) == 21
    assert seen == [0, 10, 20]


async def test_update_gives_up_some_day(storage: Any) -> None:
    counters = SessionManager(int, storage=storage, concurrency="optimistic")
    unchecked = SessionManager(int, storage=storage, concurrency="last-write-wins")

    async def never(count: int) -> int:
        await unchecked.update("chat", lambda count: count + 1)
        return -1

    with pytest.raises(SessionConflictError):
        await counters.update("chat", never)
    assert await counters.get("chat") == 50


async def test_get_waits_for_nobody_and_sees_what_was_committed(counters: SessionManager[int]) -> None:
    assert await counters.get("chat") is None
    async with counters.open("chat") as s:
        s.data = 5
        assert await counters.get("chat") is None
        await s.save()
        assert await counters.get("chat") == 5


async def test_get_gives_a_copy(storage: Any) -> None:
    pizzas = SessionManager(Pizza, storage=storage)
    await by_open(pizzas, "chat", lambda access: access.get())
    pizza = await pizzas.get("chat")
    assert pizza is not None
    pizza.count = 100
    assert await pizzas.get("chat") == Pizza()


async def test_keys_and_entries_of_more_than_a_page(storage: Any) -> None:
    counters = SessionManager(int, storage=storage, prefix="n:")
    for number in range(1_203):
        await put(storage, f"n:{number:04}", b"%d" % number)
        await put(storage, f"other:{number}", b"x")
    keys = [key async for key in counters.keys()]
    assert sorted(keys) == [f"{number:04}" for number in range(1_203)]
    assert {key: number async for key, number in counters.entries()} == {key: int(key) for key in keys}


async def test_entries_may_be_changed_while_they_are_gone_through(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    for number in range(700):
        await put(storage, f"{number:04}", b"1")
    seen = []
    async for key, _ in counters.entries():
        seen.append(key)
        async with counters.open(key) as s:
            s.data = None  # type: ignore[assignment]
    assert sorted(seen) == [f"{number:04}" for number in range(700)]
    assert [key async for key in counters.keys()] == []


@pytest.mark.parametrize("lazy", [False, True])
async def test_9_each_fragment_has_a_key_a_storage_and_options_of_its_own(storage: Any, lazy: bool) -> None:
    other = MemoryStorage()
    middleware = multi_session(
        lazy=lazy,
        cart=SessionOptions(initial=list[str], storage=storage, prefix="cart:", get_session_key=per_user),
        visits=SessionManager(int, storage=other),
    )
    ctx = (LazyContext if lazy else Context)(chat_id=1, user_id=2)

    async def handler() -> None:
        cart = ctx.session.cart
        (await cart if lazy else cart).append("olives")
        ctx.session.visits = 7

    await middleware(ctx, handler)
    assert await value_of(storage, "cart:2") == b'["olives"]'
    assert await value_of(other, "1") == b"7"
    await middleware.aclose()


@pytest.mark.parametrize("lazy", [False, True])
async def test_9_none_deletes_all(storage: Any, lazy: bool) -> None:
    middleware = multi_session(
        lazy=lazy, **{name: SessionManager(int, storage=storage, prefix=f"{name}:") for name in "ab"}
    )
    for name in "ab":
        await put(storage, f"{name}:1", b"1")
    ctx = (LazyContext if lazy else Context)(1)

    async def handler() -> None:
        with pytest.raises(TypeError, match="only None"):
            ctx.session = 5
        ctx.session = None

    await middleware(ctx, handler)
    assert [await value_of(storage, f"{name}:1") for name in "ab"] == [None, None]


@pytest.mark.parametrize("lazy", [False, True])
async def test_9_one_that_cannot_be_stored_keeps_all_from_being_written(storage: Any, lazy: bool) -> None:
    middleware = multi_session(
        lazy=lazy, **{name: SessionManager(int, storage=storage, prefix=f"{name}:") for name in "abc"}
    )
    ctx = (LazyContext if lazy else Context)(1)

    async def handler() -> None:
        ctx.session.a = 1
        ctx.session.b = object()
        ctx.session.c = 1

    with pytest.raises(SessionError, match="stored as JSON"):
        await middleware(ctx, handler)
    assert storage.writes == []


async def test_9_lazy_fragments_that_nobody_asked_for_are_not_read(storage: Any) -> None:
    middleware = multi_session(
        lazy=True, **{name: SessionManager(int, storage=storage, prefix=f"{name}:") for name in "ab"}
    )
    ctx = LazyContext(1)

    async def handler() -> None:
        await ctx.session.b

    await middleware(ctx, handler)
    assert storage.reads == ["b:1"]


@pytest.mark.parametrize("lazy", [False, True])
async def test_9_save_and_release_concern_all_fragments(storage: Any, lazy: bool) -> None:
    middleware = multi_session(
        lazy=lazy, **{name: SessionManager(int, storage=storage, prefix=f"{name}:") for name in "ab"}
    )
    ctx = (LazyContext if lazy else Context)(1)

    async def handler() -> None:
        ctx.session.a = ctx.session.b = 1
        await ctx.save_session()
        assert [await value_of(storage, f"{name}:1") for name in "ab"] == [b"1", b"1"]
        ctx.session.b = 2
        await ctx.release_session()
        await asyncio.wait_for(
            asyncio.create_task(by_open(SessionManager(int, storage=storage, prefix="b:"), 1, count_one)), 10
        )

    await middleware(ctx, handler)
    assert await value_of(storage, "b:1") == b"3"


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("name", ["data", "save", "release", "_fragments", "session", "initial"])
async def test_9_any_name_will_do_for_a_fragment(storage: Any, lazy: bool, name: str) -> None:
    middleware = multi_session(lazy=lazy, **{name: SessionManager(int, storage=storage)})
    ctx = (LazyContext if lazy else Context)(1)

    async def handler() -> None:
        value = getattr(ctx.session, name)
        setattr(ctx.session, name, (await value if lazy else value) + 5)

    await middleware(ctx, handler)
    assert await value_of(storage, "1") == b"5"


async def test_9_a_name_that_no_fragment_has_is_told(storage: Any) -> None:
    middleware = multi_session(cart=SessionManager(int, storage=storage), visits=SessionManager(int, storage="memory:"))
    ctx = Context(1)

    async def handler() -> None:
        with pytest.raises(AttributeError, match="there are cart, visits"):
            _ = ctx.session.card
        with pytest.raises(AttributeError, match="there are cart, visits"):
            ctx.session.card = 1

    await middleware(ctx, handler)
    with pytest.raises(TypeError, match="at least one"):
        multi_session()


@pytest.mark.parametrize(("key_of_a", "key_of_b"), [(per_chat, per_chat), (per_user, per_chat)])
def test_9_fragments_with_the_same_keys_in_one_storage_are_refused(storage: Any, key_of_a: Any, key_of_b: Any) -> None:
    a = SessionManager(int, storage=storage, get_session_key=key_of_a)
    with pytest.raises(ValueError, match=r"'a' and 'b' would have the same keys .* prefix='b:'"):
        multi_session(a=a, b=SessionManager(str, storage=storage, get_session_key=key_of_b))
    multi_session(a=a, b=SessionManager(str, storage=storage, get_session_key=key_of_b, prefix="b:"))


def test_9_fragments_with_the_same_keys_in_one_file_given_by_url_are_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'bot.db'}"
    fragment: SessionOptions[int] = SessionOptions(initial=int, storage=url)
    with pytest.raises(ValueError, match="the same keys in the same storage"):
        multi_session(a=SessionManager(int, storage=url), b=SessionManager(int, storage=url))
    with pytest.raises(ValueError, match="the same keys in the same storage"):
        multi_session(a=fragment, b=fragment)


async def test_9_fragments_that_meet_by_key_functions_of_ones_own_are_an_error_at_once(storage: Any) -> None:
    fragments = {
        name: SessionManager(int, storage=storage, get_session_key=lambda ctx: "same")  # two functions
        for name in ("a", "b")
    }
    with pytest.raises(SessionError, match="open already"):
        await asyncio.wait_for(multi_session(**fragments)(Context(1), lambda: steps(1)), 120)


async def test_9_fragments_in_memory_do_not_meet_though_their_url_is_the_same() -> None:
    fragment: SessionOptions[int] = SessionOptions(initial=int, storage="memory:")
    ctx = Context(1)

    async def handler() -> None:
        ctx.session.a, ctx.session.b = 1, 2

    async with multi_session(a=fragment, b=fragment) as middleware:
        await middleware(ctx, handler)
        assert [await manager.get(1) for manager in middleware.fragments.values()] == [1, 2]


async def test_managers_with_other_names_live_side_by_side(storage: Any) -> None:
    class Shop(SessionFlavor[int]):
        cart = SessionAttribute[list[str]]()
        chat_id = 1

    visits = session(int, storage=storage, prefix="v:")
    carts = session(list[str], storage=storage, prefix="c:", name="cart")
    ctx = Shop()

    async def handler() -> None:
        ctx.session += 1
        ctx.cart.append("olives")

    await visits(ctx, lambda: carts(ctx, handler))
    assert (await value_of(storage, "v:1"), await value_of(storage, "c:1")) == (b"1", b'["olives"]')


async def test_a_context_serves_one_update_after_the_other(storage: Any) -> None:
    middleware = session(int, storage=storage)
    ctx = Context(1)

    async def handler() -> None:
        ctx.session += 1

    for _ in range(3):
        await middleware(ctx, handler)
    assert await value_of(storage, "1") == b"3"


async def test_a_lazy_session_that_is_not_awaited_says_so(storage: Any) -> None:
    middleware = lazy_session(Pizza, storage=storage)
    ctx = LazyContext(1)

    async def handler() -> None:
        with pytest.raises(AttributeError, match=r"\(await ctx.session\).count"):
            ctx.session.count  # noqa: B018

    await middleware(ctx, handler)


async def test_open_many_takes_any_iterable_and_gives_its_order(storage: Any, counters: SessionManager[int]) -> None:
    async with counters.open_many(str(n) for n in (3, 1, 2)) as sessions:
        assert [s.key for s in sessions] == ["3", "1", "2"]
        sessions[0].data = 1
    assert storage.writes == [(Action.PUT, "3")]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("concurrency", "none"),
        ("on_decode_error", "ignore"),
        ("lock_timeout", 0),
        ("lock_lease", -1),
        ("max_size", 0),
        ("name", "not a name"),
    ],
)
def test_options_that_make_no_sense_are_named(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        SessionManager(int, storage="memory:", **{option: value})


@pytest.mark.parametrize(("initial", "type_"), [(Pizza, int), (dict, list), (Pizza, str), (float, int)])
def test_an_initial_that_makes_something_else_is_refused(initial: Any, type_: Any) -> None:
    with pytest.raises(TypeError, match=f"makes a {initial.__name__}, which does not fit type={type_.__name__}"):
        SessionManager(initial, type=type_, storage="memory:")


def test_an_initial_that_may_fit_is_taken() -> None:
    class Shape(TypedDict):
        sides: int

    for initial, type_ in (
        (bool, int),
        (dict, Shape),
        (int, float),
        (list, list[str]),
        (lambda: 1, str),
    ):
        SessionManager(initial, type=cast("Any", type_), storage="memory:")


def test_session_options_are_frozen_and_keyword_only() -> None:
    options = SessionOptions(initial=int)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.prefix = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        SessionOptions(int)  # type: ignore[call-arg, misc]
    with pytest.raises(TypeError):
        SessionManager(int, unknown=1)  # type: ignore[call-overload]

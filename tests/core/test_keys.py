"""Rules 6, 7 and 21: which key an update has, what a key may be, and that no two keys meet."""

# ruff: noqa: ASYNC240, SIM118 - small blocks read best where they stand; `keys()` is no dict's

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import IntEnum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from core_aids import Context, LazyContext, count_one, put, steps, value_of
from hypothesis import given
from hypothesis import strategies as st

from chatsession import (
    LazySessionFlavor,
    SessionFlavor,
    SessionKeyError,
    SessionManager,
    multi_session,
    per_chat,
    per_topic,
    per_user,
    per_user_in_chat,
)
from chatsession.keys import checked
from chatsession.storages.sqlite._records import escaped, unescaped

ODD_KEYS = [
    "/",
    "../../etc/passwd",
    ".",
    "..",
    "a/../b",
    "C:\\nul",
    "nul\0nul",
    "\0",
    "\1",
    "\1\1",
    "\1\2",
    "\0\1\2",
    " ",
    "a ",
    "a",
    "A",
    "é",
    "e\u0301",
    "🍕",
    "'; DROP TABLE sessions; --",
    "%",
    "_",
    "*",
    '"',
    "\n",
    "1",
    "01",
    "1.0",
    "null",
    "\uffff",
    "\U0010ffff",
    "x" * (1 << 20),
    "x" * (1 << 20) + "y",
]


def middlewares(**options: Any) -> list[Any]:
    manager = SessionManager(int, **options)
    return [(manager.middleware(), Context), (manager.lazy_middleware(), LazyContext)]


async def test_6_no_key_handlers_that_do_not_touch_the_session_run_as_usual(storage: Any) -> None:
    ran = []

    async def handler() -> None:
        ran.append(True)

    for middleware, context in middlewares(storage=storage):
        await middleware(context(None), handler)
    assert len(ran) == 2
    assert (storage.reads, storage.writes) == ([], [])


@pytest.mark.parametrize(
    ("get_session_key", "message"),
    [
        (per_chat, "has no chat"),
        (per_user, "has no user"),
        (per_topic, "has no chat"),
        (per_user_in_chat, "has no chat and user"),
        (lambda ctx: None, "returned None"),
        (partial(lambda value, ctx: value, None), "returned None"),
    ],
)
async def test_6_no_key_touching_the_session_says_why(storage: Any, get_session_key: Any, message: str) -> None:
    for middleware, context in middlewares(storage=storage, get_session_key=get_session_key):
        ctx = context(None)

        async def handler(ctx: Any = ctx) -> None:
            with pytest.raises(SessionKeyError, match=message):
                _ = ctx.session
            with pytest.raises(SessionKeyError, match=message):
                ctx.session = 1
            with pytest.raises(SessionKeyError, match=message):
                ctx.session = None
            await ctx.save_session()
            await ctx.release_session()

        await middleware(ctx, handler)
    assert (storage.reads, storage.writes) == ([], [])


@pytest.mark.parametrize("lazy", [False, True])
async def test_6_no_key_in_a_multi_session_concerns_that_fragment_alone(storage: Any, lazy: bool) -> None:
    middleware = multi_session(
        lazy=lazy,
        chat=SessionManager(int, storage=storage, prefix="chat:"),
        user=SessionManager(int, storage=storage, prefix="user:", get_session_key=per_user),
    )
    ctx = (LazyContext if lazy else Context)("7", None)

    async def handler() -> None:
        ctx.session.chat = 1
        with pytest.raises(SessionKeyError, match="no user"):
            _ = ctx.session.user
        with pytest.raises(SessionKeyError, match="no user"):
            ctx.session.user = 2

    await middleware(ctx, handler)
    assert await value_of(storage, "chat:7") == b"1"


async def test_7_the_key_function_may_be_sync_or_async_and_return_str_or_int(storage: Any) -> None:
    async def async_key(ctx: Any) -> int:
        return ctx.chat_id

    class Chat(IntEnum):
        PIZZA = 5

    functions: list[Any] = [lambda ctx: ctx.chat_id, lambda ctx: str(ctx.chat_id), async_key, lambda ctx: Chat.PIZZA]
    for function in functions:
        for middleware, context in middlewares(storage=storage, prefix="bot:", get_session_key=function):
            ctx = context(5)

            async def handler(ctx: Any = ctx) -> None:
                ctx.session = 1

            await middleware(ctx, handler)
    assert {key for _, key in storage.writes} == {"bot:5"}


@pytest.mark.parametrize("key", [b"1", 1.5, True, ["1"], ""])
async def test_7_other_types_and_the_empty_key_are_refused(storage: Any, key: Any) -> None:
    def chosen(ctx: object) -> Any:
        return key

    for middleware, context in middlewares(storage=storage, get_session_key=chosen):
        with pytest.raises(SessionKeyError, match="chosen"):
            await middleware(context(1), lambda: steps(1))
    manager = SessionManager(int, storage=storage)
    for use in (manager.open, lambda key: manager.open_many([key])):
        with pytest.raises(SessionKeyError):
            use(key)
    with pytest.raises(SessionKeyError):
        await manager.get(key)
    with pytest.raises(SessionKeyError):
        await manager.update(key, lambda count: count + 1)
    assert storage.reads == []


async def test_a_key_of_none_cannot_be_opened(storage: Any) -> None:
    with pytest.raises(SessionKeyError, match="cannot be None"):
        SessionManager(int, storage=storage).open(None)  # type: ignore[arg-type]


async def test_7_a_key_function_that_raises_fails_the_update(storage: Any) -> None:
    def broken(ctx: object) -> str:
        raise ZeroDivisionError

    for middleware, context in middlewares(storage=storage, get_session_key=broken):
        with pytest.raises(ZeroDivisionError):
            await middleware(context(1), lambda: steps(1))


async def test_7_the_prefix_keeps_kinds_of_sessions_apart(storage: Any) -> None:
    a = SessionManager(int, storage=storage, prefix="a:")
    b = SessionManager(str, storage=storage, prefix="b:")
    await a.update(1, lambda count: count + 5)
    await b.update(1, lambda text: text + "x")
    assert (await a.get(1), await b.get(1)) == (5, "x")
    assert [key async for key in a.keys()] == ["1"]
    assert [entry async for entry in b.entries()] == [("1", "x")]


async def test_21_odd_keys_are_stored_and_none_is_mapped_onto_another(storage: Any, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    numbers = SessionManager(int, storage=storage)
    for number, key in enumerate(ODD_KEYS):
        async with numbers.open(key) as s:
            assert not s.exists, ascii(key[:20])
            s.data = number
    for number, key in enumerate(ODD_KEYS):
        assert await numbers.get(key) == number
    assert sorted([key async for key in numbers.keys()]) == sorted(ODD_KEYS)
    assert {path.name for path in tmp_path.iterdir()} == before


def _owner(key: str, prefixes: list[str]) -> str:
    """The longest prefix of the key that a manager has."""
    return max((prefix for prefix in prefixes if key.startswith(prefix)), key=len)


async def test_21_odd_keys_as_prefixes_find_their_keys_and_no_others(storage: Any) -> None:
    for key in ODD_KEYS:
        await put(storage, key, b"1")
    known: list[str] = []
    for prefix in ODD_KEYS:
        known.append(prefix)
        found = [prefix + key async for key in SessionManager(int, storage=storage, prefix=prefix).keys()]
        own = [key for key in ODD_KEYS if key.startswith(prefix) and _owner(key, known) == prefix]
        assert sorted(found) == sorted(own)


async def test_21_odd_keys_lock_apart(storage: Any) -> None:
    numbers = SessionManager(int, storage=storage)
    async with numbers.open_many(ODD_KEYS) as sessions:
        for s in sessions:
            s.data += 1
    assert {number async for _, number in numbers.entries()} == {1}


async def test_21_what_is_no_unicode_is_refused_with_a_clear_error(storage: Any) -> None:
    numbers = SessionManager(int, storage=storage)
    with pytest.raises(SessionKeyError, match="not valid Unicode"):
        numbers.open("\ud800")
    for middleware, context in middlewares(storage=storage, get_session_key=lambda ctx: "\ud800"):
        with pytest.raises(SessionKeyError, match="not valid Unicode"):
            await middleware(context(1), lambda: steps(1))


@given(st.one_of(st.text(), st.integers()), st.text(alphabet=st.characters(codec="utf-8")))
def test_checked_puts_the_prefix_before_what_it_takes_and_refuses_the_rest(key: str | int, prefix: str) -> None:
    try:
        full = checked(key, prefix, None)
    except SessionKeyError:
        assert key == "" or not _encodes(str(key))
    else:
        assert full == f"{prefix}{key}"
        assert _encodes(full)


@given(st.one_of(st.none(), st.booleans(), st.floats(), st.binary(), st.lists(st.text())))
def test_checked_takes_nothing_but_str_and_int(key: Any) -> None:
    if key is None:
        assert checked(key, "prefix:", None) is None
    else:
        with pytest.raises(SessionKeyError, match=type(key).__name__):
            checked(key, "", None)


STORED = st.text(alphabet=st.one_of(st.sampled_from("\0\1\2\3a"), st.characters(codec="utf-8")))


@given(STORED)
def test_sqlite_escaping_is_undone_by_unescaping(key: str) -> None:
    assert unescaped(escaped(key).encode()) == key
    assert "\0" not in escaped(key)


@given(STORED, STORED)
def test_sqlite_escaping_keeps_order_and_prefixes(one: str, other: str) -> None:
    assert (escaped(one) < escaped(other)) == (one < other)
    assert escaped(one + other).startswith(escaped(one))
    assert escaped(one).startswith(escaped(other)) == one.startswith(other)


@pytest.mark.parametrize(
    ("function", "ctx", "key"),
    [
        (per_chat, {"chat_id": -100}, "-100"),
        (per_chat, {"chat": SimpleNamespace(id=5)}, "5"),
        (per_chat, {"chat": None}, None),
        (per_chat, {"chat_id": 0}, "0"),
        (per_chat, {"chat_id": 5, "business_connection_id": "b"}, "b:5"),
        (per_user, {"user_id": 7}, "7"),
        (per_user, {"from_user": SimpleNamespace(id=7)}, "7"),
        (per_user, {"from_user": None}, None),
        (per_user_in_chat, {"chat_id": 5, "user_id": 7}, "5:7"),
        (per_user_in_chat, {"chat_id": 5, "user_id": None}, None),
        (per_user_in_chat, {"chat_id": None, "user_id": 7}, None),
        (per_topic, {"chat_id": 5}, "5"),
        (per_topic, {"chat_id": 5, "thread_id": 3}, "5:3"),
        (per_topic, {"chat_id": None, "thread_id": 3}, None),
    ],
)
def test_key_functions(function: Any, ctx: dict[str, Any], key: str | None) -> None:
    assert function(SimpleNamespace(**ctx)) == key


@pytest.mark.parametrize("function", [per_chat, per_user, per_user_in_chat, per_topic])
def test_key_functions_refuse_a_context_that_tells_nothing(function: Any) -> None:
    with pytest.raises(SessionKeyError, match="get_session_key of your own"):
        function(object())


@pytest.mark.parametrize("flavor", [SessionFlavor, LazySessionFlavor])
async def test_contexts_may_have_no_chat_id_if_the_key_function_is_ones_own(flavor: Any, storage: Any) -> None:
    class Bare(flavor):
        pass

    manager = SessionManager(int, storage=storage, get_session_key=lambda ctx: "the one")
    middleware = manager.middleware() if flavor is SessionFlavor else manager.lazy_middleware()
    ctx = Bare()

    async def handler() -> None:
        ctx.session = 1

    await middleware(ctx, handler)
    assert await manager.get("the one") == 1


@pytest.fixture
async def counters(storage: Any) -> AsyncIterator[SessionManager[int]]:
    async with SessionManager(int, storage=storage) as counters:
        yield counters


async def test_int_and_str_of_the_same_digits_are_one_key(way: Any, counters: SessionManager[int]) -> None:
    await way(counters, 5, count_one)
    await way(counters, "5", count_one)
    assert await counters.get(5) == 2


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

"""Rule 19: an update that is delivered again does not run its handler again."""

# ruff: noqa: SIM118 - `keys()` is no dict's

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from core_aids import Context, LazyContext, RecordingMemory

from chatsession import LazySessionFlavor, SessionError, SessionFlavor, SessionManager, SessionOptions, multi_session
from chatsession.storages import Action, Change, Record, Storage


class Update(SessionFlavor[Any]):
    def __init__(self, update_id: int | None, chat_id: int = 1) -> None:
        self.update_id = update_id
        self.chat_id = chat_id
        self.user_id = chat_id


class LazyUpdate(LazySessionFlavor[Any]):
    def __init__(self, update_id: int | None, chat_id: int = 1) -> None:
        self.update_id = update_id
        self.chat_id = chat_id
        self.user_id = chat_id


Deliver = Callable[[int | None], Awaitable[bool]]


def strictly(sessions: SessionManager[int], change: Callable[[int], int | None] = lambda count: count + 1) -> Deliver:
    """Deliver an update to a handler that changes the session; did it run?"""

    async def deliver(update_id: int | None) -> bool:
        ran = False
        ctx = Update(update_id)

        async def handler() -> None:
            nonlocal ran
            ran = True
            ctx.session = change(ctx.session)

        await sessions.middleware()(ctx, handler)
        return ran

    return deliver


def lazily(sessions: SessionManager[int]) -> Deliver:
    async def deliver(update_id: int | None) -> bool:
        ran = False
        ctx = LazyUpdate(update_id)

        async def handler() -> None:
            nonlocal ran
            ran = True
            ctx.session = await ctx.session + 1

        await sessions.lazy_middleware()(ctx, handler)
        return ran

    return deliver


@pytest.mark.parametrize("way", [strictly, lazily])
async def test_a_handler_runs_once_for_each_update(storage: Storage, way: Callable[[Any], Deliver]) -> None:
    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
        deliver = way(sessions)
        assert [await deliver(n) for n in (10, 10, 11, 10, 12, 11)] == [True, False, True, False, True, False]
        assert await sessions.get(1) == 3


async def test_it_is_known_after_a_restart_and_written_together_with_the_data(storage: Storage) -> None:
    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
        await strictly(sessions)(10)
    (record,) = await storage.read_many(["1"])
    assert isinstance(record, Record)
    assert json.loads(record.value) == {"__d": 1, "u": [10]}
    async with SessionManager(int, storage=storage, deduplicate=3) as sessions:
        assert not await strictly(sessions)(10)
        assert await sessions.get(1) == 1


async def test_as_many_are_remembered_as_asked_for(storage: Storage) -> None:
    async with SessionManager(int, storage=storage, deduplicate=2) as sessions:
        deliver = strictly(sessions)
        assert [await deliver(n) for n in (1, 2, 3, 2, 3, 1)] == [True, True, True, False, False, True]


async def test_both_at_once(storage: Storage) -> None:
    async with SessionManager(int, storage=storage, deduplicate=2) as sessions:
        deliver = strictly(sessions)
        assert sorted(await asyncio.gather(*(deliver(5) for _ in range(5)))) == [False] * 4 + [True]
        assert await sessions.get(1) == 1


async def test_a_failed_update_is_handled_again(storage: Storage) -> None:
    async with SessionManager(int, storage=storage, deduplicate=2) as sessions:

        def fail(_: int) -> int:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await strictly(sessions, fail)(5)
        assert await strictly(sessions)(5)
        assert await sessions.get(1) == 1


async def test_an_update_that_changed_nothing_is_remembered(storage: Storage) -> None:
    async with SessionManager(int, storage=storage, deduplicate=2) as sessions:
        await strictly(sessions)(4)
        deliver = strictly(sessions, lambda count: count)
        assert [await deliver(5), await deliver(5)] == [True, False]
        assert await sessions.get(1) == 1


async def test_an_update_that_deleted_the_session_is_remembered(storage: Storage, clock: Any) -> None:
    async with SessionManager(int, storage=storage, deduplicate=2) as sessions:
        await strictly(sessions)(4)
        deliver = strictly(sessions, lambda _: None)
        assert [await deliver(5), await deliver(5), await deliver(4)] == [True, False, False]
        assert await sessions.get(1) is None
        assert [key async for key in sessions.keys()] == []
        assert [entry async for entry in sessions.entries()] == []
        async with sessions.open(1) as s:
            assert not s.exists
        clock.advance(86_401)  # for longer Telegram does not try
        assert (await storage.read_many(["1"]))[0] is None


async def test_an_update_that_never_looked_is_remembered(storage: Storage) -> None:
    async with SessionManager(int, storage=storage, deduplicate=2) as sessions:
        ran = 0

        async def handler() -> None:
            nonlocal ran
            ran += 1

        for _ in range(2):
            await sessions.middleware()(Update(7), handler)
        assert ran == 1
        assert await sessions.get(1) is None


async def test_without_the_option_nothing_is_remembered(storage: Storage) -> None:
    async with SessionManager(int, storage=storage) as sessions:
        deliver = strictly(sessions)
        assert [await deliver(1), await deliver(1)] == [True, True]
        (record,) = await storage.read_many(["1"])
        assert isinstance(record, Record)
        assert record.value == b"2"


async def test_an_update_without_an_id_runs_always_and_a_context_that_knows_none_is_refused(storage: Storage) -> None:
    async with SessionManager(int, storage=storage, deduplicate=2) as sessions:
        deliver = strictly(sessions)
        assert [await deliver(None), await deliver(None)] == [True, True]

        async def handler() -> None:
            pass

        with pytest.raises(SessionError, match=r"Context has neither update_id nor update.update_id"):
            await sessions.middleware()(Context(), handler)
        with pytest.raises(SessionError, match="neither update_id nor"):
            await sessions.lazy_middleware()(LazyContext(), handler)


@pytest.mark.parametrize("lazy", [False, True])
async def test_of_several_sessions_each_is_changed_once(storage: Storage, lazy: bool) -> None:
    """A crash may come between their commits: then the handler runs again, for those that have not seen the update."""
    options: Any = {"initial": int, "storage": storage, "deduplicate": 2}
    a, b = SessionOptions(prefix="a:", **options), SessionOptions(prefix="b:", **options)
    both = multi_session(lazy=lazy, a=a, b=b)
    ran = 0

    async def deliver(update_id: int) -> None:
        ctx = (LazyUpdate if lazy else Update)(update_id)

        async def handler() -> None:
            nonlocal ran
            ran += 1
            session: Any = ctx.session
            session.a = (await session.a if lazy else session.a) + 1
            session.b = (await session.b if lazy else session.b) + 1

        await both(ctx, handler)

    async with both, SessionManager.from_options(a) as only_a:
        await deliver(1)
        await deliver(1)
        assert ran == 1
        await strictly(only_a)(2)  # as if the process had died after the first commit
        await deliver(2)
        assert ran == 2
        assert await both.fragments["a"].get(1) == 2
        assert await both.fragments["b"].get(1) == 2


async def test_save_and_release_remember_too() -> None:
    storage = RecordingMemory()
    async with SessionManager(int, storage=storage, deduplicate=2) as sessions:
        ctx = Update(9)

        async def handler() -> None:
            ctx.session += 1
            await ctx.save_session()
            ctx.session += 1
            await ctx.release_session()

        await sessions.middleware()(ctx, handler)
        assert await sessions.get(1) == 2
        assert not await strictly(sessions)(9)


@pytest.mark.parametrize("on_decode_error", ["quarantine", "reset"])
async def test_what_did_not_fit_is_not_put_into_an_envelope(storage: Storage, on_decode_error: Any) -> None:
    await storage.commit_many([Change("1", Action.PUT, b"no json")])
    async with SessionManager(int, storage=storage, deduplicate=2, on_decode_error=on_decode_error) as sessions:

        async def handler() -> None:
            pass

        await sessions.middleware()(Update(7), handler)
        assert await sessions.get(1) is None
        assert not await strictly(sessions)(7)
        assert await strictly(sessions)(8)
        assert await sessions.get(1) == 1

"""Updates that wait for one chat go on before the one ahead of them is durable, and are done only when they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from core_aids import assert_nothing_is_held

from chatsession import (
    LazySessionFlavor,
    SessionConflictError,
    SessionFlavor,
    SessionManager,
    StorageUnavailableError,
    multi_session,
)
from chatsession.integrations.update_context import UpdateContext
from chatsession.integrations.update_session import UpdateSession
from chatsession.storages import Action, Change, Outcome
from chatsession.storages.sqlite import SQLiteStorage

UPDATES = 200


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - it is for the loop to go on
            await asyncio.sleep(0)


class Gated(SQLiteStorage):
    """CommitQueue wait behind a gate, and some of them fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = asyncio.Event()
        self.commits: list[Change] = []
        self.failing: Callable[[Change], bool] = lambda _: False

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        await self.gate.wait()
        kept = [change for change in changes if change.action is not Action.KEEP]
        self.commits += kept
        if any(map(self.failing, kept)):
            raise StorageUnavailableError("the server does not answer")
        return await super().commit_many(changes)


@pytest.fixture
async def storage(tmp_path: Path) -> Gated:
    return Gated(tmp_path / "bot.db")


@dataclass
class Counts:
    """What the handlers saw, and what became of them."""

    sessions: SessionManager[int]
    seen: list[int]

    async def count(self, *, change: bool = True) -> int:
        async with self.sessions.open("chat") as session:
            self.seen.append(session.data)
            if change:
                session.data += 1
            return session.data

    def all(self, *changes: bool) -> list[asyncio.Task[int]]:
        """Start one after another, without waiting for any of them."""
        return [asyncio.create_task(self.count(change=change)) for change in changes]

    async def have_seen(self, updates: int) -> None:
        await until(lambda: len(self.seen) >= updates)


@pytest.fixture
async def counts(storage: Gated) -> Any:
    async with SessionManager(int, storage=storage) as sessions:
        yield Counts(sessions, [])
        storage.gate.set()
    await assert_nothing_is_held(storage)


async def test_12_they_go_on_at_once_and_are_done_when_they_are_durable(storage: Gated, counts: Counts) -> None:
    tasks = counts.all(*[True] * 10)
    await counts.have_seen(10)
    assert counts.seen == list(range(10))
    assert not any(task.done() for task in tasks)
    assert await counts.sessions.get("chat") is None
    storage.gate.set()
    assert await asyncio.gather(*tasks) == list(range(1, 11))
    assert await counts.sessions.get("chat") == 10


async def test_12_what_waits_travels_together(storage: Gated, counts: Counts) -> None:
    tasks = counts.all(*[True] * UPDATES)
    await counts.have_seen(UPDATES)
    storage.gate.set()
    await asyncio.gather(*tasks)
    assert await counts.sessions.get("chat") == UPDATES
    assert [change.value for change in storage.commits] == [b"1", str(UPDATES).encode()]


async def test_12_each_is_durable_when_it_is_done(storage: Gated, counts: Counts) -> None:
    storage.gate.set()

    async def count_and_look() -> None:
        counted = await counts.count()
        assert (await counts.sessions.get("chat") or 0) >= counted

    await asyncio.gather(*(count_and_look() for _ in range(UPDATES)))


async def test_12_what_was_given_something_that_is_never_stored_fails(storage: Gated, counts: Counts) -> None:
    storage.failing = lambda change: change.value == b"1"
    tasks = counts.all(True, True, False, True)
    await counts.have_seen(4)
    storage.gate.set()
    first, *others = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, StorageUnavailableError)
    assert [type(error) for error in others] == [SessionConflictError] * 3
    assert "could not be stored" in str(others[0])
    assert await counts.sessions.get("chat") is None
    storage.failing = lambda _: False
    assert await counts.count() == 1


async def test_12_the_one_that_runs_while_another_fails_fails_and_the_next_begins_afresh(
    storage: Gated, counts: Counts
) -> None:
    storage.failing = lambda change: change.value == b"1"
    over = asyncio.Event()

    async def slow() -> None:
        async with counts.sessions.open("chat") as session:
            counts.seen.append(session.data)
            await over.wait()
            session.data += 1

    first = asyncio.create_task(counts.count())
    second = asyncio.create_task(slow())
    third = asyncio.create_task(counts.count())
    await counts.have_seen(2)
    storage.gate.set()
    with pytest.raises(StorageUnavailableError):
        await first
    storage.failing = lambda _: False
    over.set()
    with pytest.raises(SessionConflictError, match="could not be stored"):
        await second
    assert await third == 1


async def test_12_a_save_on_what_is_never_stored_fails_too(storage: Gated, counts: Counts) -> None:
    storage.failing = lambda change: change.value == b"1"

    async def save() -> None:
        async with counts.sessions.open("chat") as session:
            counts.seen.append(session.data)
            session.data += 1
            await session.save()

    first, second = asyncio.create_task(counts.count()), asyncio.create_task(save())
    await counts.have_seen(2)
    storage.gate.set()
    with pytest.raises(StorageUnavailableError):
        await first
    with pytest.raises(SessionConflictError):
        await second


@pytest.mark.parametrize("failing", [False, True])
async def test_12_a_save_of_nothing_is_done_when_what_it_was_given_is_durable(
    storage: Gated, counts: Counts, failing: bool
) -> None:
    storage.failing = lambda _: failing

    async def save_nothing() -> None:
        async with counts.sessions.open("chat") as session:
            counts.seen.append(session.data)
            await session.save()
            saved.set()

    saved = asyncio.Event()
    first, second = asyncio.create_task(counts.count()), asyncio.create_task(save_nothing())
    await counts.have_seen(2)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not saved.is_set()
    storage.gate.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == (
        [StorageUnavailableError, SessionConflictError] if failing else [int, type(None)]
    )
    assert saved.is_set() is not failing


async def test_5_a_handler_that_fails_raises_its_own_error_whatever_it_was_given(
    storage: Gated, counts: Counts, clean_log: pytest.LogCaptureFixture
) -> None:
    storage.failing = lambda change: change.value == b"1"

    async def fail() -> None:
        async with counts.sessions.open("chat") as session:
            counts.seen.append(session.data)
            raise ZeroDivisionError

    first, second = asyncio.create_task(counts.count()), asyncio.create_task(fail())
    await counts.have_seen(2)
    storage.gate.set()
    with pytest.raises(ZeroDivisionError):
        await second
    with pytest.raises(StorageUnavailableError):
        await first
    assert clean_log.records == []


async def test_12_another_process_gets_the_key_at_once_when_a_commit_has_failed(
    tmp_path: Path, storage: Gated, counts: Counts
) -> None:
    storage.failing = lambda change: change.value == b"1"
    tasks = counts.all(True, True)
    await counts.have_seen(2)
    storage.gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with SessionManager(int, storage=SQLiteStorage(tmp_path / "bot.db"), lock_timeout=15) as elsewhere:
        assert await elsewhere.update("chat", lambda count: count + 1) == 1


async def test_3_deleted_and_made_anew_on_the_way(storage: Gated, counts: Counts) -> None:
    async def reset() -> None:
        async with counts.sessions.open("chat") as session:
            counts.seen.append(session.data)
            session.data = None

    tasks: list[Awaitable[object]] = [*counts.all(True, True)]
    tasks += [asyncio.create_task(reset()), *counts.all(True, False)]
    tasks += [asyncio.create_task(reset()), *counts.all(False, True, True)]
    await counts.have_seen(9)
    assert counts.seen == [0, 1, 2, 0, 1, 1, 0, 0, 1]
    storage.gate.set()
    await asyncio.gather(*tasks)
    assert await counts.sessions.get("chat") == 2


@pytest.mark.parametrize("cancelled", range(4))
async def test_12_one_that_is_cancelled_while_it_waits_to_be_durable_takes_nobody_with_it(
    storage: Gated, counts: Counts, cancelled: int
) -> None:
    tasks = counts.all(*[True] * 4)
    await counts.have_seen(4)
    tasks[cancelled].cancel()
    storage.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results.pop(cancelled), asyncio.CancelledError)
    assert not any(isinstance(result, BaseException) for result in results)
    assert await counts.sessions.get("chat") == 4


async def test_16_sessions_that_expire_are_handed_on_as_well(storage: Gated) -> None:
    async with SessionManager(int, storage=storage, ttl=60) as sessions:
        counts = Counts(sessions, [])
        tasks = counts.all(*[True, False] * 10)
        await counts.have_seen(2)
        storage.gate.set()
        await asyncio.gather(*tasks)
        assert await sessions.get("chat") == 10
    await assert_nothing_is_held(storage)


class Update(SessionFlavor[Any]):
    def __init__(self) -> None:
        self.chat_id, self.update_id = 1, 7


class LazyUpdate(LazySessionFlavor[Any]):
    def __init__(self) -> None:
        self.chat_id, self.update_id = 1, 7


async def strictly(sessions: SessionManager[int], handled: Callable[[], None]) -> None:
    ctx = Update()

    async def handler() -> None:
        handled()
        ctx.session += 1

    await sessions.middleware()(ctx, handler)


async def lazily(sessions: SessionManager[int], handled: Callable[[], None]) -> None:
    ctx = LazyUpdate()

    async def handler() -> None:
        handled()
        ctx.session = await ctx.session + 1

    await sessions.lazy_middleware()(ctx, handler)


async def as_one_of_several(sessions: SessionManager[int], handled: Callable[[], None]) -> None:
    ctx = Update()

    async def handler() -> None:
        handled()
        ctx.session.count += 1

    await multi_session(count=sessions)(ctx, handler)


async def lazily_as_one_of_several(sessions: SessionManager[int], handled: Callable[[], None]) -> None:
    ctx = LazyUpdate()

    async def handler() -> None:
        handled()
        session: Any = ctx.session
        session.count = await session.count + 1

    await multi_session(lazy=True, count=sessions)(ctx, handler)


async def in_a_framework(sessions: SessionManager[int], handled: Callable[[], None]) -> None:
    context = UpdateContext(
        chat_id=1, user_id=1, thread_id=None, business_connection_id=None, bot_id=42, update=None, update_id=7
    )
    unit = UpdateSession(sessions, context, per_bot=False, lazy=False)
    count = await unit.load()
    if not unit.redelivered:
        handled()
        unit.holder.data = count + 1
    await unit.holder.commit()


@pytest.mark.parametrize(
    "deliver",
    [strictly, lazily, as_one_of_several, lazily_as_one_of_several, in_a_framework],
    ids=lambda it: it.__name__,
)
async def test_19_an_update_that_comes_again_is_done_only_if_its_first_delivery_is_durable(
    storage: Gated, deliver: Callable[[SessionManager[int], Callable[[], None]], Awaitable[None]]
) -> None:
    handled: list[bool] = []
    async with SessionManager(int, storage=storage, deduplicate=5) as sessions:

        async def update() -> None:
            await deliver(sessions, lambda: handled.append(True))

        for failing in (True, False):
            handled.clear()
            storage.gate.clear()
            storage.failing = lambda _, failing=failing: failing
            tasks = [asyncio.create_task(update()) for _ in range(2)]
            await until(lambda: handled)
            for _ in range(1000):  # the other is given the key, without the storage
                await asyncio.sleep(0)
            assert not any(task.done() for task in tasks)
            storage.gate.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            wanted = [StorageUnavailableError, SessionConflictError] if failing else [type(None)] * 2
            assert [type(result) for result in results] == wanted
            assert len(handled) == 1
        assert await sessions.get(1) == 1
    await assert_nothing_is_held(storage)


async def test_what_nobody_handled_for_what_is_never_stored_is_not_done(storage: Gated) -> None:
    context = UpdateContext(chat_id=1, user_id=1, thread_id=None, business_connection_id=None, bot_id=42, update=None)
    async with SessionManager(int, storage=storage) as sessions:

        async def delete() -> None:
            async with sessions.open(1) as session:
                await asyncio.sleep(0)  # the other one waits for its turn now
                session.data = None

        async def put_aside() -> None:
            unit = UpdateSession(sessions, context, per_bot=False, lazy=False)
            seen.append(await unit.load())
            unit.discard_if_only_read()
            await unit.holder.commit()

        storage.gate.set()
        await sessions.update(1, lambda count: count + 1)
        storage.gate.clear()
        storage.failing = lambda change: change.action is Action.DELETE
        seen: list[int] = []
        tasks = [asyncio.create_task(delete()), asyncio.create_task(put_aside())]
        await until(lambda: seen)
        for _ in range(1000):
            await asyncio.sleep(0)
        storage.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [StorageUnavailableError, SessionConflictError]
        assert (seen, await sessions.get(1)) == ([0], 1)
    await assert_nothing_is_held(storage)

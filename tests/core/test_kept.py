"""A process alone with its storage keeps a lock for a moment; nobody else can tell, but by the trips it saves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from chatsession import SessionConflictError, SessionManager
from chatsession.coordination.coordinator import coordinator_of
from chatsession.coordination.lease_cache import MOST_KEPT
from chatsession.storages import Locked, LockRequest
from chatsession.storages.sqlite import SQLiteStorage


class Counting(SQLiteStorage):
    locked = 0

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | None]:
        self.locked += len(requests)
        return await super().lock_many(requests)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.db"


async def count_up(sessions: SessionManager[int], key: str = "chat") -> None:
    async with sessions.open(key) as session:
        session.data += 1


async def test_the_next_update_of_a_burst_locks_nothing(path: Path) -> None:
    storage = Counting(path)
    async with SessionManager(int, storage=storage) as sessions:
        for _ in range(10):
            await count_up(sessions)
        assert await sessions.get("chat") == 10
        assert storage.locked == 1


async def test_large_sessions_are_not_kept(path: Path) -> None:
    storage = Counting(path)
    async with SessionManager(str, storage=storage) as sessions:
        for _ in range(3):
            await sessions.update("chat", lambda text: text + 5_000 * "x")
        assert not coordinator_of(storage)._cache
        assert storage.locked == 3


async def test_a_handler_that_fails_leaves_no_trace_in_what_is_kept(path: Path) -> None:
    async with SessionManager(list[int], storage=Counting(path)) as sessions:
        async with sessions.open("chat") as session:
            session.data.append(1)
        with pytest.raises(ZeroDivisionError):
            async with sessions.open("chat") as session:
                session.data.append(1 // 0)
        with pytest.raises(ZeroDivisionError):
            async with sessions.open("chat") as session:
                session.data.append(2)
                _ = 1 // 0
        async with sessions.open("chat") as session:
            assert session.data == [1]


async def test_another_process_gets_the_key_and_from_then_on_nothing_is_kept(path: Path) -> None:
    storage = Counting(path)
    async with SessionManager(int, storage=storage) as ours, SessionManager(int, storage=SQLiteStorage(path)) as theirs:
        await count_up(ours)
        await count_up(theirs)
        await count_up(ours)
        await count_up(ours)
        assert await theirs.get("chat") == 4
        assert storage.locked == 3
        assert len(coordinator_of(storage)._cache) == 0


async def test_a_lock_kept_before_another_process_came_goes_to_it_unasked(path: Path) -> None:
    async with SessionManager(int, storage=Counting(path)) as ours:
        await count_up(ours)
        async with SessionManager(int, storage=SQLiteStorage(path), lock_timeout=15) as theirs:
            await count_up(theirs)
            assert await ours.get("chat") == 2


async def test_a_process_that_stood_still_does_not_trust_what_it_kept(path: Path) -> None:
    ours, theirs = Counting(path), SQLiteStorage(path)
    async with SessionManager(int, storage=ours, lock_lease=1.5) as sessions:
        await count_up(sessions)
        time.sleep(1.6)  # noqa: ASYNC251 - the whole process is to stall, longer than its lease
        async with SessionManager(int, storage=theirs) as others:
            await count_up(others)
        async with sessions.open("chat") as session:
            assert session.data == 2


@pytest.mark.parametrize("seconds", [-2.0, 2.0])
async def test_what_was_kept_is_not_trusted_when_the_clock_was_set(
    path: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Counting(path)
    async with SessionManager(int, storage=storage) as sessions:
        await count_up(sessions)
        shifted = SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() + seconds)
        monkeypatch.setattr("chatsession.coordination.leases.time", shifted)
        await count_up(sessions)
        locked = storage.locked
        assert locked > 1
        await count_up(sessions)
        assert storage.locked == locked


async def test_a_commit_without_a_lock_is_seen_by_the_next_update(path: Path) -> None:
    storage = Counting(path)
    async with (
        SessionManager(int, storage=storage) as exclusive,
        SessionManager(int, storage=storage, concurrency="optimistic") as optimistic,
    ):
        await count_up(exclusive)
        await count_up(optimistic)
        await count_up(exclusive)
        assert await exclusive.get("chat") == 3
        async with exclusive.open("chat") as session:
            with pytest.raises(SessionConflictError):
                async with optimistic.open("chat") as other:
                    other.data += 1
                    session.data += 1
                    await session.save()


async def test_sessions_that_expire_are_not_kept(path: Path) -> None:
    storage = Counting(path)
    async with SessionManager(int, storage=storage, ttl=60) as sessions:
        await count_up(sessions)
        assert len(coordinator_of(storage)._cache) == 0


async def test_closing_gives_everything_back_and_it_is_never_too_much(path: Path) -> None:
    storage = Counting(path)
    async with storage:
        async with SessionManager(int, storage=storage) as sessions:
            async with sessions.open_many(range(1, MOST_KEPT // 100)) as opened:
                for session in opened:
                    session.data += 1
            assert 0 < len(coordinator_of(storage)._cache) <= MOST_KEPT
        locks = await storage._at_work.submit(
            lambda connection, _: connection.execute("SELECT count(*) FROM session_locks").fetchone(), writes=False
        )
        assert locks == (0,)


async def test_what_was_saved_in_the_middle_of_an_update_is_what_the_next_one_gets(path: Path) -> None:
    async with SessionManager(int, storage=Counting(path)) as sessions:
        async with sessions.open("chat") as session:
            session.data = 1
            await session.save()
        async with sessions.open("chat") as session:
            assert session.data == 1
            session.data = 2
            await session.save()
            session.data = 3
        async with sessions.open("chat") as session:
            assert session.data == 3
            session.data = None
            await session.save()
        async with sessions.open("chat") as session:
            assert not session.exists


async def test_what_was_saved_in_the_middle_is_handed_over_to_those_who_wait(path: Path) -> None:
    async with SessionManager(int, storage=Counting(path)) as sessions:

        async def count() -> None:
            async with sessions.open("chat") as session:
                session.data += 1
                await session.save()

        await asyncio.gather(*(count() for _ in range(20)))
        assert await sessions.get("chat") == 20

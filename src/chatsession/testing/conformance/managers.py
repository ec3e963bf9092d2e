"""The same promises as a bot sees them: through `SessionManager`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import pytest
import pytest_asyncio

from chatsession import SessionConflictError, SessionLockTimeoutError, SessionManager
from chatsession.storages import Storage
from chatsession.testing.conformance.single import is_busy
from chatsession.testing.conformance.suite import StorageSuite, Time

Counters: TypeAlias = SessionManager[int]


class ManagerTests(StorageSuite):
    """Two managers on two storage objects play two processes of one bot."""

    @pytest_asyncio.fixture
    async def managers(self, storage: Storage, other: Storage) -> AsyncIterator[tuple[Counters, Counters]]:
        async with SessionManager(int, storage=storage) as here, SessionManager(int, storage=other) as there:
            yield here, there

    @pytest.mark.parametrize(("updates", "keys"), [(200, 1), (400, 100)], ids=["one key", "many keys"])
    async def test_no_update_is_lost(self, managers: tuple[Counters, Counters], updates: int, keys: int) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(updates):
                group.create_task(_count_one(managers[n % 2], f"chat:{n // 2 % keys}"))
        counts = [await managers[0].get(f"chat:{n}") for n in range(keys)]
        assert counts == [updates // keys] * keys
        assert {key: count async for key, count in managers[1].entries()} == {
            f"chat:{n}": updates // keys for n in range(keys)
        }

    async def test_no_update_is_lost_by_update(self, storage: Storage, other: Storage) -> None:
        async with (
            SessionManager(int, storage=storage, concurrency="optimistic") as here,
            SessionManager(int, storage=other, concurrency="optimistic") as there,
        ):
            async with asyncio.TaskGroup() as group:
                for n in range(20):
                    group.create_task((here, there)[n % 2].update("chat", _one_more))
            assert await here.get("chat") == 20

    async def test_a_failed_handler_stores_nothing_and_leaves_no_lock(
        self, managers: tuple[Counters, Counters]
    ) -> None:
        here, there = managers
        await _count_one(here, "chat")

        async def fail() -> None:
            async with here.open("chat") as session:
                session.data = 7
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        await _count_one(there, "chat")
        assert await here.get("chat") == 2

    async def test_a_deleted_session_starts_afresh(self, managers: tuple[Counters, Counters]) -> None:
        here, there = managers
        await _count_one(here, "chat")
        async with here.open("chat") as session:
            session.data = None  # type: ignore[assignment]  # the contract's way to delete
        assert await there.get("chat") is None
        await _count_one(there, "chat")
        assert await here.get("chat") == 1

    async def test_a_handler_that_is_cancelled_while_waiting_leaves_no_lock(
        self, managers: tuple[Counters, Counters], other: Storage
    ) -> None:
        here, there = managers
        async with here.open("chat") as session:
            waiting = [asyncio.create_task(_count_one(there, "chat")) for _ in range(10)]
            await _until_busy(other, "chat")
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            session.data += 1
        async with asyncio.timeout(60):
            await _count_one(there, "chat")
        assert await here.get("chat") == 2

    async def test_waiting_for_another_process_has_an_end(self, storage: Storage, other: Storage) -> None:
        async with (
            SessionManager(int, storage=storage) as here,
            SessionManager(int, storage=other, lock_timeout=0.05) as there,
        ):
            async with here.open("chat") as session:
                waiting, ended = asyncio.create_task(_count_one(there, "chat")), asyncio.Event()
                waiting.add_done_callback(lambda _: ended.set())
                await ended.wait()
                with pytest.raises(SessionLockTimeoutError, match="chat"):
                    waiting.result()
                session.data += 1
            await _count_one(here, "chat")
            assert await there.get("chat") == 2

    async def test_the_second_of_two_optimistic_commits_conflicts(self, storage: Storage, other: Storage) -> None:
        async with (
            SessionManager(int, storage=storage, concurrency="optimistic") as here,
            SessionManager(int, storage=other, concurrency="optimistic") as there,
        ):
            first, second = here.open("chat"), there.open("chat")
            one, two = await first.__aenter__(), await second.__aenter__()
            one.data, two.data = 1, 2
            await first.__aexit__(None, None, None)
            with pytest.raises(SessionConflictError):
                await second.__aexit__(None, None, None)
            assert await there.get("chat") == 1

    async def test_a_holder_that_lost_its_lease_conflicts(self, storage: Storage, other: Storage, time: Time) -> None:
        if time.clock is None or not storage.shared:
            pytest.skip("a holder can be stalled only by moving the clock, and only a shared storage has leases")
        async with (
            SessionManager(int, storage=storage, lock_lease=time.seconds(3)) as here,
            SessionManager(int, storage=other, lock_lease=time.seconds(3)) as there,
        ):
            stalled = here.open("chat")
            session = await stalled.__aenter__()
            session.data += 1
            await time.passes(4)
            await _count_one(there, "chat")
            with pytest.raises(SessionConflictError, match="lock"):
                await stalled.__aexit__(None, None, None)
            await _count_one(here, "chat")
            assert await there.get("chat") == 2

    async def test_a_session_is_forgotten_when_its_time_to_live_is_over(
        self, storage: Storage, other: Storage, time: Time
    ) -> None:
        if not storage.expiring:
            pytest.skip("this storage's records have no time to live")
        async with (
            SessionManager(int, storage=storage, ttl=time.seconds(time.ample)) as here,
            SessionManager(int, storage=other) as there,
        ):
            await _count_one(here, "chat")
            assert await there.get("chat") == 1

            async def forgotten() -> bool:
                return await there.get("chat") is None

            await time.until(forgotten, "the session is forgotten")
            await _count_one(here, "chat")
            assert await there.get("chat") == 1

    async def test_locks_of_many_keys_in_any_order_cause_no_deadlock(self, managers: tuple[Counters, Counters]) -> None:
        keys = [f"chat:{n}" for n in range(8)]

        async def count_all(manager: Counters, order: Callable[[list[str]], list[str]]) -> None:
            async with manager.open_many(order(keys)) as sessions:
                for session in sessions:
                    session.data += 1

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for n in range(8):
                group.create_task(count_all(managers[n % 2], list if n % 3 else lambda given: given[::-1]))
        assert [await managers[0].get(key) for key in keys] == [8] * 8


async def _count_one(manager: Counters, key: str) -> None:
    async with manager.open(key) as session:
        count = session.data
        await asyncio.sleep(0)
        session.data = count + 1


async def _one_more(count: int) -> int:
    await asyncio.sleep(0)
    return count + 1


async def _until_busy(storage: Storage, key: str) -> None:
    """Return when the loop has turned often enough for the others to have asked for the key."""
    for _ in range(5):
        assert not storage.shared or await is_busy(storage, key)
        await asyncio.sleep(0)

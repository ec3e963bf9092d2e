"""Rule 18: a session moves to another key atomically, once, and is found from the old one."""

# ruff: noqa: SIM118 - `keys()` is no dict's

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from core_aids import RecordingMemory

from chatsession import MemoryStorage, SessionError, SessionManager, StorageError, generate_encryption_key
from chatsession.storages import Action, Change, Outcome, Storage

OLD, NEW = -5, -1005


def counters(storage: Storage, **options: Any) -> SessionManager[int]:
    return SessionManager(int, storage=storage, **options)


async def add(sessions: SessionManager[int], key: int, amount: int = 1) -> None:
    async with sessions.open(key) as s:
        count = s.data
        await asyncio.sleep(0)
        s.data = count + amount


async def test_it_moves_and_is_found_from_the_old_key(storage: Storage) -> None:
    async with counters(storage) as sessions:
        await add(sessions, OLD, 3)
        await sessions.move(OLD, NEW)
        assert await sessions.get(NEW) == 3
        assert await sessions.get(OLD) == 3
        await add(sessions, OLD)
        await add(sessions, NEW)
        assert await sessions.get(NEW) == 5
        async with sessions.open(OLD) as s:
            assert s.key == str(NEW)
        assert [key async for key in sessions.keys()] == [str(NEW)]
        assert [entry async for entry in sessions.entries()] == [(str(NEW), 5)]


async def test_moving_again_changes_nothing(storage: Storage) -> None:
    async with counters(storage) as sessions:
        await add(sessions, OLD)
        await sessions.move(OLD, NEW)
        await add(sessions, NEW)
        await sessions.move(OLD, NEW)
        await asyncio.gather(*(sessions.move(OLD, NEW) for _ in range(5)))
        assert await sessions.get(NEW) == 2


async def test_a_chat_that_was_never_stored(storage: Storage) -> None:
    async with counters(storage) as sessions:
        await sessions.move(OLD, NEW)
        assert await sessions.get(NEW) is None
        async with sessions.open(OLD) as s:
            assert not s.exists
        await add(sessions, OLD)  # an update still under way: it counts for the new chat
        assert await sessions.get(NEW) == 1
        assert [key async for key in sessions.keys()] == [str(NEW)]


async def test_deleting_under_either_key_deletes_and_the_way_stays(storage: Storage) -> None:
    async with counters(storage) as sessions:
        await add(sessions, OLD)
        await sessions.move(OLD, NEW)
        async with sessions.open(OLD) as s:
            s.data = None  # type: ignore[assignment]
        assert await sessions.get(NEW) is None
        await add(sessions, OLD)
        assert await sessions.get(NEW) == 1


async def test_when_both_have_data_the_new_ones_stays_and_the_old_ones_is_readable(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    async with counters(storage) as sessions:
        await add(sessions, OLD, 3)
        await add(sessions, NEW, 4)
        with caplog.at_level(logging.WARNING, "chatsession"):
            await sessions.move(OLD, NEW)
        assert await sessions.get(NEW) == 4
        keys, _ = await storage.scan_keys("!moved:", None, 10)
        assert keys[0] in caplog.text
        assert await sessions.get(keys[0]) == 3
        assert [key async for key in sessions.keys()] == [str(NEW)]


async def test_or_they_are_merged(storage: Storage) -> None:
    async with counters(storage, merge=lambda old, new: 10 * old + new) as sessions:
        await add(sessions, OLD, 3)
        await add(sessions, NEW, 4)
        await sessions.move(OLD, NEW)
        assert await sessions.get(NEW) == 34
        await sessions.move(OLD, NEW)
        assert await sessions.get(OLD) == 34


async def test_a_merge_that_fails_moves_nothing(storage: Storage) -> None:
    def merge(old: int, new: int) -> int:
        raise ZeroDivisionError

    async with counters(storage, merge=merge) as sessions:
        await add(sessions, OLD, 3)
        await add(sessions, NEW, 4)
        with pytest.raises(SessionError, match=r"^session '-1005': merge raised ZeroDivisionError"):
            await sessions.move(OLD, NEW)
        assert (await sessions.get(OLD), await sessions.get(NEW)) == (3, 4)


async def test_there_and_back(storage: Storage) -> None:
    async with counters(storage) as sessions:
        await add(sessions, OLD)
        await sessions.move(OLD, NEW)
        await add(sessions, NEW)
        await sessions.move(NEW, OLD)
        await add(sessions, NEW)
        assert await sessions.get(OLD) == 3
        assert [key async for key in sessions.keys()] == [str(OLD)]


async def test_along_a_chain(storage: Storage) -> None:
    async with counters(storage) as sessions:
        await add(sessions, 1)
        await sessions.move(1, 2)
        await sessions.move(2, 3)
        await add(sessions, 1)
        assert await sessions.get(1) == 2
        assert [key async for key in sessions.keys()] == ["3"]


async def test_while_updates_of_both_keys_run_none_is_lost(storage: Storage) -> None:
    async with counters(storage, merge=lambda old, new: old + new) as sessions:
        work = [add(sessions, key) for _ in range(40) for key in (OLD, NEW)]
        work[10:10] = [sessions.move(OLD, NEW)]
        work[50:50] = [sessions.move(OLD, NEW)]
        await asyncio.gather(*work)
        assert await sessions.get(NEW) == 80
        assert await sessions.get(OLD) == 80


async def test_several_opened_together_follow_too(storage: Storage) -> None:
    async with counters(storage) as sessions:
        await add(sessions, OLD)
        await sessions.move(OLD, NEW)
        async with sessions.open_many([7, OLD, 8]) as opened:
            assert [s.key for s in opened] == ["7", str(NEW), "8"]
            for s in opened:
                s.data += 1
        assert [await sessions.get(key) for key in (7, NEW, 8)] == [1, 2, 1]


@pytest.mark.parametrize("concurrency", ["optimistic", "last-write-wins"])
async def test_in_the_other_modes(storage: Storage, concurrency: Any) -> None:
    async with counters(storage, concurrency=concurrency) as sessions:
        await add(sessions, OLD)
        await sessions.move(OLD, NEW)
        await add(sessions, OLD)
        assert await sessions.get(NEW) == 2


async def test_with_everything_on(storage: Storage, clock: Any) -> None:
    key = generate_encryption_key()
    options: dict[str, Any] = {"encryption_keys": [key], "ttl": 100, "deduplicate": 3, "migrations": {1: lambda n: n}}
    async with counters(storage, **options) as sessions:
        await add(sessions, OLD)
        await sessions.move(OLD, NEW)
        await add(sessions, OLD)
        assert await sessions.get(NEW) == 2
        assert [key async for key in sessions.keys()] == [str(NEW)]
        clock.advance(101)
        assert await sessions.get(OLD) is None
        await add(sessions, OLD)  # the way outlives the session
        assert await sessions.get(NEW) == 1


class Breaking(MemoryStorage):
    """Dies at the nth commit: before it is made, or after."""

    shared = True
    immediate = False

    def __init__(self, records: dict[str, Any], dies_at: int, *, applied: bool) -> None:
        super().__init__()
        self._records = records
        self._places = dict.fromkeys(records, 0)
        self._order = [(0, key) for key in records]
        self._left = dies_at
        self._applied = applied

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        if any(change.action is Action.PUT for change in changes):
            self._left -= 1
            if self._left <= 0:
                if self._left == 0 and self._applied:
                    await super().commit_many(changes)
                raise StorageError("the process died")
        return await super().commit_many(changes)


async def died_while_moving(step: int, *, applied: bool, new: int) -> dict[str, Any]:
    """What is stored after a move that broke off at its nth write; the old key had 3."""
    records: dict[str, Any] = {}
    storage = MemoryStorage()
    storage._records = records
    async with counters(storage) as sessions:
        await add(sessions, OLD, 3)
        if new:
            await add(sessions, NEW, new)
    async with counters(Breaking(records, step, applied=applied), merge=lambda old, new: 10 * old + new) as sessions:
        with pytest.raises(StorageError, match="died"):
            await sessions.move(OLD, NEW)
    return records


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("new", [0, 4])
@pytest.mark.parametrize("first", ["old", "new", "move", "look", "both"])
async def test_a_move_that_broke_off_is_finished_by_whoever_comes(
    step: int, applied: bool, new: int, first: str
) -> None:
    records = await died_while_moving(step, applied=applied, new=new)
    storage = Breaking(records, 1000, applied=False)
    whole = 30 + new if new else 3
    async with counters(storage, merge=lambda old, new: 10 * old + new) as sessions:
        moved = step > 1 or applied  # before that, nothing of the move is written
        if first == "look":
            assert await sessions.get(OLD) in ((3, whole) if moved else (3,))
        if first in ("old", "both"):
            await add(sessions, OLD, 0)
        if first in ("new", "both"):
            async with sessions.open(NEW) as s:
                assert s.exists == (moved or new > 0)
                assert not s.exists or s.data == (whole if moved else new)
        await sessions.move(OLD, NEW)
        assert (await sessions.get(OLD), await sessions.get(NEW)) == (whole, whole)
        assert [key async for key in sessions.keys()] == [str(NEW)]
        await sessions.move(OLD, NEW)
        assert await sessions.get(NEW) == whole


async def test_an_adapter_moves_its_values() -> None:
    class Shelf(dict[str, Any]):
        read = dict.get

        def write(self, key: str, value: Any) -> None:
            self[key] = value

        def delete(self, key: str) -> None:
            self.pop(key, None)

    shelf = Shelf()
    async with SessionManager(int, storage=shelf, merge=lambda old, new: old + new) as sessions:
        await add(sessions, OLD)
        await sessions.move(OLD, NEW)
        assert shelf == {str(NEW): 1}
        await add(sessions, OLD)
        await sessions.move(OLD, NEW)
        assert shelf == {str(NEW): 2}


async def test_nothing_moves_for_whoever_never_moved() -> None:
    storage = RecordingMemory()
    async with counters(storage) as sessions:
        await add(sessions, OLD)
        storage.writes.clear()
        await sessions.move(OLD, OLD)
        assert storage.writes == []


@pytest.mark.parametrize("data_under", ["a", "b", "c", "ab", "bc", "abc"])
@pytest.mark.parametrize("order", [("ab", "bc"), ("bc", "ab"), ("ab", "bc", "ab"), ("bc", "ab", "bc", "ab")])
async def test_18_a_chain_of_moves_in_any_order(storage: Any, order: tuple[str, ...], data_under: str) -> None:
    texts = SessionManager(list[str], storage=storage, merge=lambda old, new: [*old, *new])
    for key in data_under:
        await texts.put(key, [key])
    for old, new in order:
        await texts.move(old, new)
    for key in "abc":
        found = await texts.get(key)
        assert found is not None
        assert sorted(found) == list(data_under), key
    await texts.update("a", lambda found: [*found, "d"])
    assert sorted(await texts.get("c") or []) == [*data_under, "d"]


@pytest.mark.parametrize("first", ["a", "b", "c"])
@pytest.mark.parametrize("steps", list(itertools.product([1, 2, 3, 4], repeat=2)))
async def test_18_two_moves_of_a_chain_that_both_broke_off(steps: tuple[int, int], first: str) -> None:
    records: dict[str, Any] = {}

    def texts(step: int) -> SessionManager[list[str]]:
        storage = Breaking(records, step, applied=True)
        return SessionManager(list[str], storage=storage, merge=lambda old, new: sorted(old + new))

    async with texts(1000) as sessions:
        for key in "abc":
            await sessions.put(key, [key])
    for (old, new), step in zip(("bc", "ab"), steps, strict=True):
        async with texts(step) as sessions:
            with suppress(StorageError):
                await sessions.move(old, new)
    async with texts(1000) as sessions, asyncio.timeout(60):
        for key in (first, *"abc"):
            assert await sessions.get(key) == await sessions.update(key, lambda found: found), key
        for old, new in ("bc", "ab"):
            await sessions.move(old, new)
        assert [await sessions.get(key) for key in "abc"] == [["a", "b", "c"]] * 3

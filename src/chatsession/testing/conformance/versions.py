"""A change is made only to what it expects to find."""

from __future__ import annotations

import asyncio

import pytest

from chatsession.storages import Action, Change, Committed, Expect, Refused, Storage
from chatsession.testing.conformance.single import commit, delete, number, put, read, value_of
from chatsession.testing.conformance.suite import OpenAnother, StorageSuite


class VersionTests(StorageSuite):
    """Create-only, compare-and-swap, and deleted sessions that stay deleted."""

    async def test_a_change_that_expects_absence_only_creates(self, storage: Storage, other: Storage) -> None:
        await put(storage, "key", b"1", expect=None)
        for action in (Action.PUT, Action.DELETE, Action.TOUCH, Action.KEEP):
            assert await commit(other, Change("key", action, b"2", None)) is Refused.CONFLICT
        assert await value_of(storage, "key") == b"1"

    async def test_a_commit_gives_the_version_that_a_read_gives(self, storage: Storage, other: Storage) -> None:
        version = await put(storage, "key", b"1")
        for each in (storage, other):
            record = await read(each, "key")
            assert record is not None
            assert record.version == version

    async def test_a_chain_of_versions(self, storage: Storage, other: Storage) -> None:
        version = await put(storage, "key", number(0), expect=None)
        for n in range(1, 20):
            version = await put(other if n % 2 else storage, "key", number(n), expect=version)
        assert await value_of(storage, "key") == b"19"

    @pytest.mark.parametrize("action", list(Action), ids=lambda action: action.value)
    async def test_an_old_version_changes_nothing(self, storage: Storage, other: Storage, action: Action) -> None:
        old = await put(storage, "key", b"1")
        new = await put(other, "key", b"2", expect=old)
        assert new != old
        assert await commit(storage, Change("key", action, b"3", old)) is Refused.CONFLICT
        record = await read(storage, "key")
        assert record is not None
        assert (record.value, record.version) == (b"2", new)

    @pytest.mark.parametrize("action", list(Action), ids=lambda action: action.value)
    async def test_an_old_version_never_brings_back_what_was_deleted(self, storage: Storage, action: Action) -> None:
        old = await put(storage, "key", b"1")
        await delete(storage, "key")
        assert await commit(storage, Change("key", action, b"2", old)) is Refused.CONFLICT
        assert await read(storage, "key") is None

    async def test_a_version_from_before_a_deletion_fits_no_new_value(self, storage: Storage, other: Storage) -> None:
        old = await put(storage, "key", b"1")
        await delete(other, "key")
        await put(other, "key", b"2", expect=None)
        assert await commit(storage, Change("key", Action.PUT, b"3", old)) is Refused.CONFLICT
        assert await commit(storage, Change("key", Action.DELETE, b"", old)) is Refused.CONFLICT
        assert await value_of(storage, "key") == b"2"

    async def test_delete_with_the_right_version(self, storage: Storage) -> None:
        version = await put(storage, "key", b"1")
        assert await commit(storage, Change("key", Action.DELETE, b"", version)) == Committed(None)
        assert await read(storage, "key") is None

    async def test_keep_and_touch_leave_the_version_usable(self, storage: Storage) -> None:
        version: object = await put(storage, "key", b"1")
        for action in (Action.KEEP, Action.TOUCH):
            outcome = await commit(storage, Change("key", action, b"ignored", version))
            assert type(outcome) is Committed
            version = outcome.version
        assert await put(storage, "key", b"2", expect=version)

    @pytest.mark.parametrize("stored", [True, False], ids=["stored", "absent"])
    async def test_a_change_that_expects_anything_is_always_made(self, storage: Storage, stored: bool) -> None:
        if stored:
            await put(storage, "key", b"1")
        await put(storage, "key", b"2", expect=Expect.ANYTHING)
        assert await value_of(storage, "key") == b"2"
        assert await commit(storage, Change("key", Action.DELETE, expect=Expect.ANYTHING)) == Committed(None)
        assert await read(storage, "key") is None

    async def test_of_many_that_create_one_succeeds(self, storage: Storage, other: Storage) -> None:
        outcomes = await asyncio.gather(
            *(commit((storage, other)[n % 2], Change("key", Action.PUT, number(n), None)) for n in range(40))
        )
        winners = [n for n, outcome in enumerate(outcomes) if type(outcome) is Committed]
        assert len(winners) == 1
        assert outcomes.count(Refused.CONFLICT) == 39
        assert await value_of(storage, "key") == number(winners[0])

    async def test_counting_by_compare_and_swap_from_many_tasks(
        self, storage: Storage, other: Storage, open_another: OpenAnother
    ) -> None:
        storages = [storage, other, await open_another()]

        async def count_one(each: Storage) -> None:
            while True:
                record = await read(each, "counter")
                await asyncio.sleep(0)
                change = (
                    Change("counter", Action.PUT, number(1), None)
                    if record is None
                    else Change("counter", Action.PUT, number(int(record.value) + 1), record.version)
                )
                outcome = await commit(each, change)
                if type(outcome) is Committed:
                    return
                assert outcome is Refused.CONFLICT

        async with asyncio.TaskGroup() as group:
            for n in range(30):
                group.create_task(count_one(storages[n % 3]))
        assert await value_of(storage, "counter") == number(30)

"""A commit under a lease: made while the lease is held, refused when it is lost, and what it unlocks."""

from __future__ import annotations

import pytest

from chatsession.storages import Action, Change, Committed, Expect, Lease, Refused, Storage
from chatsession.testing.conformance.locks import granted_after_lease
from chatsession.testing.conformance.single import commit, delete, is_busy, lock, number, put, read, value_of, varied
from chatsession.testing.conformance.suite import StorageSuite, Time


class FencingTests(StorageSuite):
    """What a holder may do, and what one that lost its lease may not."""

    async def test_commit_and_unlock_in_one_step(self, storage: Storage, other: Storage) -> None:
        locked = await lock(storage, "key")
        outcome = await commit(storage, Change("key", Action.PUT, b"1", None, lease=locked.lease, unlock=True))
        assert type(outcome) is Committed
        again = await lock(other, "key")
        assert again.record is not None
        assert (again.record.value, again.record.version) == (b"1", outcome.version)

        gone = Change("key", Action.DELETE, b"", outcome.version, lease=again.lease, unlock=True)
        assert await commit(other, gone) == Committed(None)
        assert (await lock(storage, "key")).record is None

    async def test_a_commit_without_unlocking_keeps_the_lock(self, storage: Storage, other: Storage) -> None:
        lease = (await lock(storage, "key")).lease
        version: object = None
        for n in range(3):
            outcome = await commit(storage, Change("key", Action.PUT, number(n), version, lease=lease))
            assert type(outcome) is Committed
            version = outcome.version
            assert await is_busy(other, "key")

    async def test_keep_and_unlock(self, storage: Storage, other: Storage) -> None:
        version = await put(storage, "key", b"1")
        lease = (await lock(storage, "key")).lease
        assert await commit(storage, Change("key", Action.KEEP, lease=lease, unlock=True)) == Committed(version)
        assert await value_of(other, "key") == b"1"
        await lock(other, "key")

    async def test_touch_and_unlock(self, storage: Storage, other: Storage) -> None:
        version = await put(storage, "key", b"1")
        lease = (await lock(storage, "key")).lease
        ttl = 1_000.0 if storage.expiring else None
        outcome = await commit(storage, Change("key", Action.TOUCH, b"", version, ttl, lease, unlock=True))
        assert type(outcome) is Committed
        assert (await lock(other, "key")).record is not None

    @pytest.mark.parametrize("action", list(Action), ids=lambda action: action.value)
    async def test_a_conflict_unlocks_too(self, storage: Storage, other: Storage, action: Action) -> None:
        old = await put(storage, "key", b"1")
        lease = (await lock(storage, "key")).lease
        await put(other, "key", b"2")  # a process that takes no locks
        change = Change("key", action, b"3", old, lease=lease)
        assert await commit(storage, change) is Refused.CONFLICT
        assert await is_busy(other, "key"), "without unlock, the lock stays"
        assert await commit(storage, varied(change, unlock=True)) is Refused.CONFLICT
        locked = await lock(other, "key")
        assert locked.record is not None
        assert locked.record.value == b"2"

    @pytest.mark.parametrize("action", list(Action), ids=lambda action: action.value)
    async def test_a_lost_lease_changes_nothing(
        self, storage: Storage, other: Storage, time: Time, action: Action
    ) -> None:
        version = await put(storage, "key", b"1")
        old = (await lock(storage, "key", time.seconds(0.5))).lease
        new = (await granted_after_lease(other, "key", time)).lease
        for unlock in (False, True):
            for expect in (version, Expect.ANYTHING):
                late = Change("key", action, b"2", expect, lease=old, unlock=unlock)
                assert await commit(storage, late) is Refused.LEASE_LOST
        record = await read(storage, "key")
        assert record is not None
        assert (record.value, record.version) == (b"1", version)
        assert await is_busy(storage, "key"), "the new holder still holds it"
        change = Change("key", Action.PUT, b"3", version, lease=new, unlock=True)
        assert type(await commit(other, change)) is Committed
        assert await value_of(storage, "key") == b"3"

    async def test_a_lost_lease_does_not_create_what_is_missing(
        self, storage: Storage, other: Storage, time: Time
    ) -> None:
        old = (await lock(storage, "key", time.seconds(0.5))).lease
        new = (await granted_after_lease(other, "key", time)).lease
        late = Change("key", Action.PUT, b"1", None, lease=old, unlock=True)
        assert await commit(storage, late) is Refused.LEASE_LOST
        assert await read(storage, "key") is None
        assert type(await commit(other, varied(late, lease=new))) is Committed
        await delete(storage, "key")
        assert await commit(storage, late) is Refused.LEASE_LOST

    async def test_a_lease_stays_lost_when_the_next_holder_is_done(
        self, storage: Storage, other: Storage, time: Time
    ) -> None:
        """The stalled holder goes on when all looks as it did before: the key is free, and the value is the same."""
        version = await put(storage, "key", b"1")
        old = (await lock(storage, "key", time.seconds(0.5))).lease
        new = (await granted_after_lease(other, "key", time)).lease
        await commit(other, Change("key", Action.KEEP, lease=new, unlock=True))
        late = Change("key", Action.PUT, b"2", version, lease=old, unlock=True)
        assert await commit(storage, late) is Refused.LEASE_LOST
        assert await value_of(storage, "key") == b"1"

    async def test_a_lease_that_was_given_back_is_lost(self, storage: Storage) -> None:
        lease = (await lock(storage, "key")).lease
        assert type(await commit(storage, Change("key", Action.PUT, b"1", lease=lease, unlock=True))) is Committed
        late = Change("key", Action.PUT, b"2", lease=lease, unlock=True)
        assert await commit(storage, late) is Refused.LEASE_LOST
        assert await value_of(storage, "key") == b"1"

    async def test_a_made_up_lease_is_lost(self, storage: Storage) -> None:
        late = Change("key", Action.PUT, b"1", lease=Lease("key", 1), unlock=True)
        assert await commit(storage, late) is Refused.LEASE_LOST
        assert await read(storage, "key") is None

    async def test_a_batch_of_held_and_lost_leases(self, storage: Storage, other: Storage) -> None:
        leases = [(await lock(storage, f"key-{n}")).lease for n in range(12)]
        for lease in leases[::3]:
            await commit(storage, Change(lease.key, Action.KEEP, lease=lease, unlock=True))
        changes = [
            Change(lease.key, Action.PUT, number(n), None if n % 2 else b"no such version", lease=lease, unlock=True)
            for n, lease in enumerate(leases)
        ]
        outcomes = await storage.commit_many(changes)
        for n, outcome in enumerate(outcomes):
            if n % 3 == 0:
                assert outcome is Refused.LEASE_LOST
            elif n % 2 == 0:
                assert outcome is Refused.CONFLICT
            else:
                assert type(outcome) is Committed
        for n, lease in enumerate(leases):
            found = await value_of(other, lease.key)
            assert found == (number(n) if n % 3 and n % 2 else None)
            await lock(other, lease.key)

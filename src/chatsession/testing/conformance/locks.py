"""Locks: one holder at a time, the others in a queue, and a lease that ends by itself."""

from __future__ import annotations

import asyncio

import pytest

from chatsession.errors import SessionError
from chatsession.storages import Committed, Lease, Locked, Refused, Storage
from chatsession.storages.inspection import ListsLocks
from chatsession.testing.conformance.single import (
    is_busy,
    lock,
    number,
    put,
    read,
    renew,
    request,
    try_lock,
    unlock,
    value_of,
    wait_for_lock,
)
from chatsession.testing.conformance.suite import OpenAnother, StorageSuite, Time


class LockTests(StorageSuite):
    """Granting, queueing, waking."""

    async def test_a_lock_comes_with_what_is_stored(self, storage: Storage, other: Storage) -> None:
        version = await put(storage, "key", b"1")
        locked = await lock(other, "key")
        assert locked.lease.key == "key"
        assert locked.record is not None
        assert (locked.record.value, locked.record.version) == (b"1", version)
        assert (await lock(storage, "missing")).record is None

    async def test_a_held_key_is_busy_for_all_others(self, storage: Storage, other: Storage) -> None:
        locked = await lock(storage, "key")
        for each in (storage, other):
            assert await is_busy(each, "key")
        assert await unlock(storage, locked.lease) == Committed(None)

    async def test_a_lock_keeps_nobody_from_reading(self, storage: Storage, other: Storage) -> None:
        await put(storage, "key", b"1")
        await lock(storage, "key")
        assert await value_of(other, "key") == b"1"

    async def test_an_unlocked_key_is_free(self, storage: Storage, other: Storage) -> None:
        for each in (storage, other, storage):
            locked = await lock(each, "key")
            await unlock(each, locked.lease)

    async def test_one_of_many_gets_the_lock(self, storage: Storage, other: Storage) -> None:
        found = await asyncio.gather(*(try_lock((storage, other)[n % 2], request("key")) for n in range(40)))
        assert len([locked for locked in found if locked is not None]) == 1

    async def test_a_busy_key_in_a_batch_holds_up_no_other_key(self, storage: Storage, other: Storage) -> None:
        keys = [f"key-{n}" for n in range(300)]
        for key in keys[::50]:
            await put(storage, key, b"1")
        for key in keys[::30]:
            await lock(storage, key)
        found = await other.lock_many([request(key) for key in keys])
        leases: set[Lease] = set()
        for n, (key, locked) in enumerate(zip(keys, found, strict=True)):
            assert not isinstance(locked, SessionError)
            assert (locked is None) == (n % 30 == 0), key
            if locked is not None:
                assert locked.lease.key == key
                assert (locked.record is not None) == (n % 50 == 0), key
                leases.add(locked.lease)
        assert len(leases) == 290

    async def test_waiters_are_served_in_order(
        self, storage: Storage, other: Storage, open_another: OpenAnother
    ) -> None:
        """Whoever asks again, and in whatever order, the key goes to the one that has waited longest."""
        holder = await lock(storage, "key")
        places = [storage, other, await open_another()]
        waiters = [request("key") for _ in range(6)]
        for n, waiter in enumerate(waiters):
            assert await try_lock(places[n % 3], waiter) is None
        lease = holder.lease
        for first in range(6):
            await unlock(storage, lease)
            for n in reversed(range(first + 1, 6)):
                assert await try_lock(places[n % 3], waiters[n]) is None, "another has waited for longer"
            assert await is_busy(places[0], "key"), "a newcomer does not jump the queue"
            locked = await try_lock(places[first % 3], waiters[first])
            assert locked is not None
            lease = locked.lease

    async def test_an_abandoned_place_in_the_queue_is_given_up(self, storage: Storage, other: Storage) -> None:
        holder = await lock(storage, "key")
        gone, stays = request("key"), request("key")
        assert await try_lock(other, gone) is None
        assert await try_lock(storage, stays) is None
        await other.abandon_many([gone, request("another key")])
        await other.abandon_many([request("key")])
        await unlock(storage, holder.lease)
        assert await try_lock(storage, stays) is not None

    async def test_an_abandoned_request_gives_its_lock_back(self, storage: Storage, other: Storage) -> None:
        """The answer to `lock_many` was lost: only the request is known, not the lease."""
        granted = request("key")
        locked = await try_lock(storage, granted)
        assert locked is not None
        await other.abandon_many([request("key")])
        assert await is_busy(other, "key"), "another request's lock is left alone"
        await storage.abandon_many([granted])
        await storage.abandon_many([granted])
        newer = await lock(other, "key")
        assert newer.lease.token > locked.lease.token
        assert await unlock(storage, locked.lease) is Refused.LEASE_LOST
        await storage.abandon_many([granted])
        assert await is_busy(storage, "key")

    async def test_to_abandon_what_the_key_was_just_unlocked_for(self, storage: Storage, other: Storage) -> None:
        holder = await lock(storage, "key")
        gone = request("key")
        assert await try_lock(other, gone) is None
        await unlock(storage, holder.lease)
        await other.abandon_many([gone])
        await lock(storage, "key")

    async def test_a_waiter_that_died_blocks_the_queue_only_for_a_while(
        self, storage: Storage, other: Storage, time: Time
    ) -> None:
        holder = await lock(storage, "key", time.seconds(1_000))
        dead, alive = request("key", time.seconds(1_000)), request("key", time.seconds(1_000))
        assert await try_lock(other, dead) is None
        assert await try_lock(storage, alive) is None
        if not storage.shared:  # a waiter in this process cannot die alone
            await storage.abandon_many([dead])
        await unlock(storage, holder.lease)

        async def granted() -> bool:
            return await try_lock(storage, alive) is not None

        await time.until(granted, "the next in the queue is served although the first is dead")

    async def test_waiting_ends_when_the_key_is_unlocked(self, storage: Storage, other: Storage) -> None:
        holder = await lock(storage, "key")
        waiting = [asyncio.create_task(wait_for_lock(each, request("key"))) for each in (other, storage, other)]
        await asyncio.sleep(0)
        await put(storage, "key", b"1")
        await unlock(storage, holder.lease)
        for each in asyncio.as_completed(waiting):
            locked = await each
            assert locked.record is not None
            assert locked.record.value == b"1"
            await unlock(storage, locked.lease)

    async def test_waiting_ends_even_if_nobody_says_anything(self, storage: Storage) -> None:
        await lock(storage, "key")
        waiter = request("key")
        assert await try_lock(storage, waiter) is None
        async with asyncio.timeout(60):
            for attempt in range(3):
                await storage.wait_unlocked(waiter, attempt)

    async def test_a_cancelled_waiter_leaves_no_lock(self, storage: Storage, other: Storage) -> None:
        holder = await lock(storage, "key")
        waiters = [request("key") for _ in range(5)]
        for waiter in waiters:
            assert await try_lock(other, waiter) is None
        waiting = [asyncio.create_task(other.wait_unlocked(waiter, 0)) for waiter in waiters]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for waiter in waiters:
            await other.abandon_many([waiter])
        await unlock(storage, holder.lease)
        await lock(storage, "key")

    async def test_a_lease_that_ran_out_counts_as_free(self, storage: Storage, other: Storage, time: Time) -> None:
        await put(storage, "key", b"1")
        old = await lock(storage, "key", time.seconds(1))
        new = await granted_after_lease(other, "key", time)
        assert new.lease.token > old.lease.token
        assert new.record is not None
        assert new.record.value == b"1"
        assert not await renew(storage, old.lease, time.seconds(1_000))

    async def test_a_waiter_gets_an_expired_lease(self, storage: Storage, other: Storage, time: Time) -> None:
        await lock(storage, "key", time.seconds(1))
        first, second = request("key", time.seconds(1_000)), request("key", time.seconds(1_000))
        order: list[str] = []

        async def granted() -> bool:
            if await try_lock(other, first) is not None:
                order.append("first")
            if await try_lock(storage, second) is not None:
                order.append("second")
            return bool(order)

        await time.until(granted, "a key is free when the lease of its holder has run out")
        assert order == ["first"]

    async def test_a_renewed_lease_does_not_run_out(self, storage: Storage, other: Storage, time: Time) -> None:
        locked = await lock(storage, "key", time.seconds(time.ample))
        assert await renew(storage, locked.lease, time.seconds(1_000))
        await time.passes(time.ample + 0.5)
        assert await is_busy(other, "key")
        assert await renew(storage, locked.lease, time.seconds(1))
        await granted_after_lease(other, "key", time)

    async def test_renewing_many_tells_which_are_lost(self, storage: Storage, other: Storage) -> None:
        locked = [await lock(storage, f"key-{n}") for n in range(20)]
        for each in locked[::4]:
            await unlock(storage, each.lease)
        for each in locked[::8]:
            await lock(other, each.lease.key)
        held = await storage.renew_many([each.lease for each in locked], 600.0)
        assert list(held) == [n % 4 != 0 for n in range(20)]

    async def test_tokens_grow_for_ever(self, storage: Storage, other: Storage, time: Time) -> None:
        tokens: list[int] = []
        for n in range(10):
            each = (storage, other)[n % 2]
            locked = await lock(each, "key")
            tokens.append(locked.lease.token)
            await unlock(each, locked.lease)
        await lock(storage, "key", time.seconds(0.5))
        tokens.append((await granted_after_lease(other, "key", time)).lease.token)
        assert tokens == sorted(set(tokens))

    async def test_locks_of_many_keys_are_counted_up_exactly(self, storage: Storage, other: Storage) -> None:
        """Lock, read, write, unlock from many tasks, as the core does: no update is lost."""

        async def count_one(each: Storage, key: str) -> None:
            locked = await wait_for_lock(each, request(key))
            value = int(locked.record.value) if locked.record else 0
            await asyncio.sleep(0)
            await put(each, key, number(value + 1))
            assert type(await unlock(each, locked.lease)) is Committed

        async with asyncio.TaskGroup() as group:
            for n in range(60):
                group.create_task(count_one((storage, other)[n % 2], f"key-{n % 3}"))
        for n in range(3):
            assert await value_of(storage, f"key-{n}") == b"20"

    async def test_locks_are_listed_by_a_literal_prefix(self, storage: Storage, other: Storage) -> None:
        """For people who look after the storage, if it can list its locks."""
        if not isinstance(storage, ListsLocks) or not isinstance(other, ListsLocks):
            pytest.skip("it does not list its locks")
        keys = ["a", "a%", "a*b", "a[b]", "A", "a\nb", "é", "e\u0301", "\uffff", "\U0010ffff"]
        await storage.lock_many([request(key) for key in keys])
        assert await is_busy(storage, "a")
        for prefix in ["", *keys, "%", "_", "*", "e", "no such key", "\ud800"]:
            expected = sorted(key for key in keys if key.startswith(prefix))
            assert sorted(held.key for held in await other.list_locks(prefix, 100)) == expected, prefix
        assert len(await other.list_locks("a", 2)) == 2

    async def test_unlocking_twice_takes_the_lock_from_nobody(self, storage: Storage, other: Storage) -> None:
        first = await lock(storage, "key")
        await unlock(storage, first.lease)
        assert await unlock(storage, first.lease) is Refused.LEASE_LOST
        second = await lock(other, "key")
        assert await unlock(storage, first.lease) is Refused.LEASE_LOST
        assert await is_busy(storage, "key")
        assert type(await unlock(other, second.lease)) is Committed
        assert await read(storage, "key") is None


async def granted_after_lease(storage: Storage, key: str, time: Time) -> Locked:
    waiter = request(key, time.seconds(1_000))
    found: list[Locked] = []

    async def granted() -> bool:
        locked = await try_lock(storage, waiter)
        if locked is not None:
            found.append(locked)
        return bool(found)

    await time.until(granted, f"{key!r} is free when its lease has run out")
    return found[0]

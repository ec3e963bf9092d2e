"""Times to live: counted from the last put or touch, and what is over reads as missing."""

from __future__ import annotations

import pytest

from chatsession.storages import Action, Change, Committed, Expect, Locked, Refused, Storage
from chatsession.testing.conformance.single import (
    commit,
    delete,
    lock,
    number,
    put,
    read,
    scan_all,
    scan_all_keys,
    unlock,
    value_of,
    varied,
)
from chatsession.testing.conformance.suite import StorageSuite, Time

LONG = 100_000
"""Ticks that never pass in a test."""


class ExpiryTests(StorageSuite):
    """Of storages whose records can have a time to live."""

    @pytest.fixture(autouse=True)
    def _only_expiring(self, request: pytest.FixtureRequest) -> None:
        name = getattr(request.function, "__name__", "")
        if name in vars(ExpiryTests) and not request.getfixturevalue("storage").expiring:
            pytest.skip("this storage's records have no time to live")

    async def test_an_expired_session_reads_as_missing(self, storage: Storage, other: Storage, time: Time) -> None:
        old = await put(storage, "key", b"1", ttl=time.seconds(1))
        await put(storage, "stays", b"2")
        await put(storage, "stays long", b"3", ttl=time.seconds(LONG))
        await _is_over(other, "key", time)
        assert await read(storage, "key") is None
        assert await value_of(storage, "stays") == b"2"
        assert await value_of(storage, "stays long") == b"3"
        assert (await lock(storage, "key")).record is None

        for action in (Action.PUT, Action.DELETE, Action.TOUCH, Action.KEEP):
            change = Change("key", action, b"4", old, time.seconds(LONG))
            assert await commit(other, change) is Refused.CONFLICT, "an expired version holds no more"
        assert await read(storage, "key") is None

    @pytest.mark.parametrize("action", list(Action), ids=lambda action: action.value)
    async def test_a_version_may_expire_before_its_commit(
        self, storage: Storage, other: Storage, time: Time, action: Action
    ) -> None:
        locked, _ = await _locked_in_time(storage, "key", time)
        assert locked.record is not None
        await _is_over(other, "key", time)
        change = Change(
            "key",
            action,
            b"2",
            locked.record.version,
            time.seconds(LONG),
            locked.lease,
            unlock=True,
            expect_until=locked.record.expires_at,
        )
        outcome = await commit(storage, change)
        assert type(outcome) is Committed, outcome
        assert (outcome.version is not None) == (action is Action.PUT)
        assert await value_of(other, "key") == (b"2" if action is Action.PUT else None)

    @pytest.mark.parametrize("action", list(Action), ids=lambda action: action.value)
    async def test_a_version_that_was_deleted_has_not_expired(
        self, storage: Storage, other: Storage, time: Time, action: Action
    ) -> None:
        await put(storage, "key", b"1", ttl=time.seconds(LONG))
        record = await read(storage, "key")
        assert record is not None
        await delete(other, "key")
        change = Change("key", action, b"2", record.version, time.seconds(LONG), expect_until=record.expires_at)
        assert await commit(storage, change) is Refused.CONFLICT
        assert await read(storage, "key") is None

    @pytest.mark.parametrize("action", list(Action), ids=lambda action: action.value)
    async def test_another_value_is_a_conflict_after_the_expiry_too(
        self, storage: Storage, other: Storage, time: Time, action: Action
    ) -> None:
        locked, ticks = await _locked_in_time(storage, "key", time)
        assert locked.record is not None
        record = locked.record
        await put(other, "key", b"2", ttl=time.seconds(LONG))
        for _ in range(2):
            change = Change("key", action, b"3", record.version, lease=locked.lease, expect_until=record.expires_at)
            assert await commit(storage, change) is Refused.CONFLICT
            await time.passes(1.5 * ticks)
        assert await value_of(storage, "key") == b"2"

    async def test_an_expired_session_is_not_brought_back(self, storage: Storage, time: Time) -> None:
        await put(storage, "key", b"1", ttl=time.seconds(1))
        await _is_over(storage, "key", time)
        assert await commit(storage, Change("key", Action.TOUCH, ttl=time.seconds(LONG))) == Committed(None)
        assert await read(storage, "key") is None
        await put(storage, "key", b"2", expect=None)
        assert await value_of(storage, "key") == b"2"

    async def test_an_expired_session_is_not_enumerated(self, storage: Storage, other: Storage, time: Time) -> None:
        await put(storage, "a", b"1", ttl=time.seconds(1))
        await put(storage, "b", b"2")
        await put(storage, "c", b"3", ttl=time.seconds(LONG))
        await _is_over(storage, "a", time)
        assert sorted(key for key, _ in await scan_all(other)) == ["b", "c"]
        assert sorted(await scan_all_keys(other)) == ["b", "c"]

    async def test_the_record_tells_when_it_ends(self, storage: Storage, other: Storage) -> None:
        if not self.tells_expiry:
            pytest.skip("this storage does not tell when a record ends")
        now = storage.now()
        await put(storage, "never", b"1")
        await put(storage, "ends", b"1", ttl=1_000.0)
        never, ends = await read(other, "never"), await read(other, "ends")
        assert never is not None
        assert never.expires_at is None
        assert ends is not None
        assert ends.expires_at == pytest.approx(now + 1_000.0, abs=30.0)
        assert (await lock(other, "ends")).record == ends

    async def test_touch_counts_from_now_on(self, storage: Storage, other: Storage, time: Time) -> None:
        version = await put(storage, "longer", b"1", ttl=time.seconds(time.ample))
        await put(storage, "shorter", b"2", ttl=time.seconds(LONG))
        await put(storage, "for ever", b"3", ttl=time.seconds(time.ample))
        outcomes = await other.commit_many(
            [
                Change("longer", Action.TOUCH, b"", version, time.seconds(LONG)),
                Change("shorter", Action.TOUCH, ttl=time.seconds(2)),
                Change("for ever", Action.TOUCH, ttl=None),
            ]
        )
        assert all(type(outcome) is Committed for outcome in outcomes), outcomes
        await time.passes(time.ample + 0.5)
        await _is_over(storage, "shorter", time)
        assert await value_of(storage, "longer") == b"1"
        assert await value_of(storage, "for ever") == b"3"

    async def test_touch_does_not_rewrite_a_newer_value(self, storage: Storage, other: Storage, time: Time) -> None:
        old = await put(storage, "key", b"1", ttl=time.seconds(LONG))
        await put(other, "key", b"2", expect=old, ttl=time.seconds(LONG))
        late = Change("key", Action.TOUCH, b"1", old, time.seconds(LONG))
        assert await commit(storage, late) is Refused.CONFLICT
        blind = await commit(storage, varied(late, expect=Expect.ANYTHING))
        assert type(blind) is Committed
        assert await value_of(storage, "key") == b"2"

    async def test_put_without_a_time_to_live_takes_it_off(self, storage: Storage, time: Time) -> None:
        await put(storage, "key", b"1", ttl=time.seconds(1))
        await put(storage, "key", b"2")
        await time.passes(1.5)
        assert await value_of(storage, "key") == b"2"

    async def test_put_gives_a_new_time_to_live(self, storage: Storage, time: Time) -> None:
        await put(storage, "longer", b"1", ttl=time.seconds(1))
        await put(storage, "longer", b"2", ttl=time.seconds(LONG))
        await put(storage, "shorter", b"1")
        await put(storage, "shorter", b"2", ttl=time.seconds(1))
        await time.passes(1.5)
        await _is_over(storage, "shorter", time)
        assert await value_of(storage, "longer") == b"2"

    async def test_a_key_that_comes_anew_has_no_time_to_live_left(self, storage: Storage, time: Time) -> None:
        await put(storage, "key", b"1", ttl=time.seconds(1))
        await delete(storage, "key")
        await put(storage, "key", b"2", expect=None)
        await time.passes(1.5)
        await storage.sweep()
        assert await value_of(storage, "key") == b"2"

    async def test_keep_does_not_touch(self, storage: Storage, time: Time) -> None:
        version = await put(storage, "key", b"1", ttl=time.seconds(time.ample))
        assert type(await commit(storage, Change("key", Action.KEEP, b"", version, time.seconds(LONG)))) is Committed
        await _is_over(storage, "key", time)

    async def test_a_lock_does_not_touch(self, storage: Storage, time: Time) -> None:
        await put(storage, "key", b"1", ttl=time.seconds(1))
        locked = await lock(storage, "key")
        await unlock(storage, locked.lease)
        await _is_over(storage, "key", time)

    async def test_sweeping_takes_what_is_over_and_nothing_else(self, storage: Storage, time: Time) -> None:
        await storage.commit_many(
            [Change(f"stays-{n}", Action.PUT, number(n), ttl=time.seconds(LONG)) for n in range(5)]
            + [Change(f"for-ever-{n}", Action.PUT, number(n)) for n in range(5)]
        )
        assert await storage.sweep() == 0
        await storage.commit_many([Change(f"over-{n}", Action.PUT, number(n), ttl=time.seconds(1)) for n in range(25)])
        await _is_over(storage, "over-24", time)
        await put(storage, "over-24", b"7")
        swept = [await storage.sweep(10) for _ in range(6)]
        assert max(swept) <= 10
        assert swept[-1] == 0, "a sweep comes to an end"
        assert sum(swept) <= 24
        left = ["over-24", *(f"{name}-{n}" for name in ("stays", "for-ever") for n in range(5))]
        assert sorted(await scan_all_keys(storage)) == sorted(left)
        assert await value_of(storage, "over-24") == b"7"


async def _locked_in_time(storage: Storage, key: str, time: Time) -> tuple[Locked, int]:
    """Store a session, and lock it before its time to live is over, which is longer on a slow machine.

    Returns:
        The lock, and the ticks that the session lives.
    """
    for ticks in (1, 2, 4, 8, 16, 32):
        await put(storage, key, b"1", ttl=time.seconds(ticks))
        locked = await lock(storage, key)
        if locked.record is not None:
            return locked, ticks
        await unlock(storage, locked.lease)
    pytest.fail("a session is never there before its time to live is over")


async def _is_over(storage: Storage, key: str, time: Time) -> None:
    async def missing() -> bool:
        return await read(storage, key) is None

    await time.until(missing, f"{key!r} expires")

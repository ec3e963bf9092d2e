"""All of one storage's traffic in this process: turns, leases, and calls that travel together.

Every manager of the same storage object shares one coordinator, so that their sessions wait for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from msgspec import Struct

from chatsession.coordination.batching import Batcher
from chatsession.coordination.commits import CommitQueue
from chatsession.coordination.key_queue import KeyQueue
from chatsession.coordination.lease_cache import MOST_KEPT, MOST_KEPT_BYTES, LeaseCache
from chatsession.coordination.leases import LeaseRenewer
from chatsession.coordination.locks import Locks
from chatsession.coordination.outcomes import made
from chatsession.storages import (
    Action,
    Change,
    Committed,
    Expect,
    ImmediateStorage,
    Lease,
    Record,
    Storage,
    Version,
)
from chatsession.storages.base import ANYTHING, DELETE, KEEP, TOUCH

MOST_HANDOVERS = 32
"""So many updates in a row take a key over from each other before other processes get their turn."""


class Acquired(Struct, frozen=True, gc=False):
    """A turn, and the lease that guards it against other processes."""

    record: Record | None
    lease: Lease | None
    handovers: int = 0


class Coordinator:
    """What the core does with a storage, one key at a time."""

    __slots__ = (
        "__weakref__",
        "_closing",
        "_commits",
        "_kept",
        "_leased",
        "_locks",
        "_members",
        "_now",
        "_opened_here",
        "_opening",
        "_reads",
        "immediate",
        "leases",
        "number",
        "queue",
        "storage",
    )

    def __init__(self, storage: Storage) -> None:
        self.storage: Storage = storage
        self._leased = storage.shared
        self._now: ImmediateStorage | None = _immediate(storage)
        self.immediate: bool = self._now is not None
        """No call ever waits."""
        self.number: int = next(_numbers)
        self._members: set[object] = set()
        self._opened_here = False
        self._opening: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None
        self.queue: KeyQueue[Acquired] = KeyQueue(self._left_over)
        self._kept: LeaseCache[Acquired] = LeaseCache(self._give_back)
        self.leases: LeaseRenewer = LeaseRenewer(storage)
        self._reads: Batcher[str, Record | None] = Batcher(
            storage.read_many, size=storage.batch_size, in_flight=storage.batches_in_flight
        )
        self._commits = CommitQueue(storage, lost=self.leases.drop)
        self._locks = Locks(storage, self.leases, self._commits.unlock)

    async def join(self, member: object) -> None:
        """Open the storage, unless it is open, for one more that uses it."""
        self._members.add(member)
        if self._closing is not None:
            await asyncio.wait([self._closing])
        if self.storage.is_open:
            return
        if self._opening is None:
            self._opened_here = True
            self._opening = asyncio.ensure_future(self.storage.open())
            self._opening.add_done_callback(self._opening_done)
        try:
            await asyncio.shield(self._opening)  # one opens for all that came meanwhile, who go on in their order
        except Exception:
            self._members.discard(member)
            raise

    def _opening_done(self, opening: asyncio.Future[None]) -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # those who wait raise it; if nobody does, nobody cares

    def _closing_done(self, closing: asyncio.Future[None]) -> None:
        self._closing = None

    async def part(self, member: object) -> None:
        """One uses the storage no more; with the last of them it is closed, if it was opened here."""
        self._members.discard(member)
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._members:
            return
        self._kept.give_back_all()
        for batches in (self._reads, self._locks, self._commits):
            await batches.drain()
        if self._members:  # one came meanwhile
            return
        self.leases.stop()
        if self._opened_here:
            self._opened_here = False
            self._closing = asyncio.ensure_future(self.storage.close())
            self._closing.add_done_callback(self._closing_done)
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def read(self, key: str) -> Record | None:
        """Read without locking."""
        if self._now is not None:
            return self._now.read(key)
        batch, place = self._reads.add(key, key)
        await batch.done
        return batch.result(place)

    async def commit(self, change: Change, note: Callable[[Committed], object] | None = None) -> Committed:
        """Make one change.

        Args:
            change: what to do.
            note: told of a change that was made, also if the task that waits for it was cancelled meanwhile.

        Raises:
            SessionConflictError: what the change expected does not hold.
        """
        if change.lease is None and (kept := self._kept.take(change.key)) is not None:
            self._give_back(kept)  # what was kept with it is about to be out of date
        if self._now is not None:
            committed = made(change, self._now.commit(change))
        else:
            sent = self._commits.send(change)
            try:
                await sent.done
            except asyncio.CancelledError:
                with contextlib.suppress(Exception):
                    if note is not None:
                        note(sent.result())
                raise
            committed = sent.result()
        if note is not None:
            note(committed)
        return committed

    async def enter(self, key: str, timeout: float, lease_seconds: float) -> Acquired:
        """Wait for the turn and, where other processes share the storage, for the lock; read in the same trip.

        Args:
            key: the session key.
            timeout: seconds to wait at most.
            lease_seconds: how long the key stays locked should this process die.

        Raises:
            SessionLockTimeoutError: others held the key for longer than `timeout`.
            SessionError: this task has the key open already.
        """
        return self.enter_now(key) or await self.enter_later(key, timeout, lease_seconds)

    def enter_now(self, key: str) -> Acquired | None:
        """The first half of `enter`: what need not be waited for; `None` if it must be."""
        if self._now is None:
            kept = self._take_kept(key)
            if kept is not None:  # then nobody has the turn
                self.queue.try_enter(key, asyncio.current_task())
            return kept
        if not self.queue.try_enter(key, asyncio.current_task()):
            return None
        try:
            return Acquired(self._now.read(key), None)
        except BaseException:
            self.queue.release(key)
            raise

    async def enter_later(self, key: str, timeout: float, lease_seconds: float) -> Acquired:
        """The second half of `enter`, without an `await` in between."""
        if not self.queue.try_enter(key, asyncio.current_task()):
            started = asyncio.get_running_loop().time()
            handover = await self.queue.wait(key, timeout)
            if handover is not None:
                return handover
            timeout = max(0.0, timeout - (asyncio.get_running_loop().time() - started))
        try:
            return await self.lock(key, timeout, lease_seconds)
        except BaseException:
            self.queue.release(key)
            raise

    async def take_turn(self, key: str, timeout: float) -> Acquired | None:
        """Only the first half of `enter`: the turn, and the grant that the one before may have left."""
        if self.queue.try_enter(key, asyncio.current_task()):
            return self._take_kept(key)
        return await self.queue.wait(key, timeout)

    async def lock(self, key: str, timeout: float, lease_seconds: float) -> Acquired:
        """The second half of `enter`, for the holder of the turn."""
        if not self._leased:
            return Acquired(await self.read(key), None)
        request = self._locks.request(key, lease_seconds)
        locked = await self._locks.attempt(request) or await self._locks.wait(request, timeout)
        return Acquired(locked.record, locked.lease)

    async def lock_now(self, key: str, lease_seconds: float) -> Acquired | None:
        """Like `lock`, but gives up at once if another process holds the key."""
        if not self._leased:
            return Acquired(await self.read(key), None)
        request = self._locks.request(key, lease_seconds)
        locked = await self._locks.attempt(request)
        if locked is None:
            self._locks.abandon(request)
            return None
        return Acquired(locked.record, locked.lease)

    async def unlock(self, grant: Acquired) -> None:
        """Undo `lock` or `lock_now`, and keep the turn."""
        if grant.lease is not None:
            self.leases.drop(grant.lease)
            await self._commits.unlock(grant.lease)

    async def wait_durable(self, lease: Lease) -> None:
        """Wait until what was given with this lease is durable. Raises `SessionConflictError` if it never will be."""
        await self._commits.wait_durable(lease)

    def leave_now(
        self, key: str, action: Action, value: bytes, expect: Version | Expect | None, ttl: float | None
    ) -> Committed | None:
        """As `leave`, for a storage that is `immediate`."""
        assert self._now is not None
        try:
            if action is KEEP:
                return None
            change = Change(key, action, value, expect, ttl)
            return made(change, self._now.commit(change))
        finally:
            self.queue.release(key)

    def leave(
        self,
        key: str,
        grant: Acquired,
        record: Record | None,
        action: Action = KEEP,
        value: bytes = b"",
        expect: Version | Expect | None = ANYTHING,
        ttl: float | None = None,
    ) -> Coroutine[Any, Any, Committed | None]:
        """Commit and unlock in one trip, then let the next update of this key in.

        While updates of the key wait in this process, the lease goes on to the next of them instead, together with
        what this one has made of the session. The next one begins at once, before that is durable; this one ends
        when it is. Returns `None` when there was nothing to commit.

        Args:
            key: the session key.
            grant: what `enter` gave.
            record: what is stored before this commit.
            action: and all that follows, as in `Change`.

        Raises:
            SessionConflictError: what the change expected does not hold, or what this update was given by the one
                before it could not be stored.
        """
        lease = grant.lease
        if lease is None:
            return self._leave_local(key, action, value, expect, ttl)
        wanted = self.queue.has_waiters(key)
        hands_over = wanted and self._may_hand_over(grant, lease)
        keeps = not wanted and len(value) <= MOST_KEPT_BYTES and self._may_keep(record, ttl)
        unlock = not (hands_over or keeps)
        change = None if action is KEEP else Change(key, action, value, expect, ttl, lease, unlock)
        if hands_over:
            return self._hand_over(key, grant, record, lease, change)
        if keeps:
            return self._keep(key, record, lease, change)
        return self._unlock(key, lease, change)

    async def _leave_local(
        self, key: str, action: Action, value: bytes, expect: Version | Expect | None, ttl: float | None
    ) -> Committed | None:
        try:
            return None if action is KEEP else await self.commit(Change(key, action, value, expect, ttl))
        finally:
            self.queue.release(key)

    async def _hand_over(
        self, key: str, grant: Acquired, record: Record | None, lease: Lease, change: Change | None
    ) -> Committed | None:
        """Let the next update begin with what this one has made, and wait until that is durable."""
        handover: Acquired | None = None
        try:
            self._commits.check(lease)
            flight = self._commits.uncommitted(lease) if change is None else self._commits.follow(change, lease)
            handover = Acquired(_made_of(record, change, flight), lease, grant.handovers + 1)
        finally:
            self.queue.release(key, handover)
        if flight is None:
            return None
        if change is None:
            return await flight.wait_durable()
        await flight.done
        return flight.result()

    async def _keep(self, key: str, record: Record | None, lease: Lease, change: Change | None) -> Committed | None:
        """Commit, and keep the lease for a moment."""
        committed: Committed | None = None
        handover: Acquired | None = None
        try:
            self._commits.check(lease)
            if change is None:
                await self._commits.wait_durable(lease)
            else:
                sent = self._commits.send(change)
                await sent.done
                committed = sent.result()
            handover = Acquired(_made_of(record, change, committed and committed.version), lease)
            return committed
        except BaseException:
            self.leases.drop(lease)
            self._commits.unlock(lease)
            raise
        finally:
            self.queue.release(key, handover)

    async def _unlock(self, key: str, lease: Lease, change: Change | None) -> Committed | None:
        """Commit and give the lease back in one trip."""
        try:
            self._commits.check(lease)
            if change is not None:
                self.leases.drop(lease)
                sent = self._commits.send(change)
                await sent.done
                return sent.result()
            try:
                await self._commits.wait_durable(lease)
            finally:
                self.leases.drop(lease)
                unlocked = self._commits.unlock(lease)
            await unlocked
            return None
        finally:
            self.queue.release(key)

    def _may_hand_over(self, grant: Acquired, lease: Lease) -> bool:
        if grant.handovers >= MOST_HANDOVERS and not self.storage.single_process:  # others have their turn
            return False
        return self.leases.certainly_held(lease)  # or the next one would be given what others have changed since

    def _may_keep(self, record: Record | None, ttl: float | None) -> bool:
        if not self.storage.single_process or ttl is not None or len(self._kept) >= MOST_KEPT:
            return False
        # What expires meanwhile would still look alive here.
        return record is None or (record.expires_at is None and len(record.value) <= MOST_KEPT_BYTES)

    def _take_kept(self, key: str) -> Acquired | None:
        grant = self._kept.take(key)
        if grant is None or grant.lease is None or self.leases.certainly_held(grant.lease):
            return grant
        self._give_back(grant)  # this process stood still for too long, and somebody else may have written
        return None

    def _left_over(self, key: str, handover: Acquired) -> None:
        """A turn ended with nobody to take it: keep its lease for a moment, or give it back."""
        if (
            self._may_keep(handover.record, None)
            and handover.lease is not None
            and self._commits.uncommitted(handover.lease) is None
        ):
            self._kept.keep(key, handover)
        else:
            self._give_back(handover)

    def _give_back(self, handover: Acquired) -> None:
        if handover.lease is not None:
            self.leases.drop(handover.lease)
            self._commits.unlock(handover.lease)


_numbers = count()

# By the storage's identity; a coordinator keeps its storage alive, so that an identity is not reused while it is here.
_coordinators: WeakValueDictionary[int, Coordinator] = WeakValueDictionary()


def coordinator_of(storage: Storage) -> Coordinator:
    """The coordinator that all managers of this storage object share."""
    coordinator = _coordinators.get(id(storage))
    if coordinator is None:
        coordinator = _coordinators[id(storage)] = Coordinator(storage)
    return coordinator


def _immediate(storage: Storage) -> ImmediateStorage | None:
    """A storage that may be asked without a coroutine, one key at a time."""
    if storage.shared or not isinstance(storage, ImmediateStorage):
        return None
    kind = type(storage)
    own = (kind.read_many, kind.commit_many) == (ImmediateStorage.read_many, ImmediateStorage.commit_many)
    return storage if own else None


def _made_of(before: Record | None, change: Change | None, version: Version | None) -> Record | None:
    """What a change makes of a record."""
    if change is None or change.action is TOUCH:
        return before
    if change.action is DELETE:
        return None
    return Record(change.value, version, None if change.ttl is None else time.time() + change.ttl)

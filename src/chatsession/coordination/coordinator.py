"""All traffic of this process with one storage: the queue of each key, its lock, and batches of calls.

All managers of a storage object share one coordinator, so that their sessions wait for each other. A key is
acquired and released in one of three ways, which the storage decides:

* immediate: the storage is memory of this process; the queue is the only lock needed, and no call ever waits;
* local: other processes cannot reach the data; the queue is the only lock needed;
* locked: other processes share the data; a lease in the storage protects the key as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from chatsession._companions import Companions
from chatsession.coordination.batching import Batcher
from chatsession.coordination.commits import CommitQueue
from chatsession.coordination.key_queue import KeyQueue
from chatsession.coordination.lanes import batcher_for
from chatsession.coordination.lease_cache import LONGEST_KEPT, LeaseCache
from chatsession.coordination.leases import LeaseRenewer
from chatsession.coordination.lifecycle import Lifecycle
from chatsession.coordination.locks import Locks
from chatsession.coordination.outcomes import made, record_after
from chatsession.errors import StorageError
from chatsession.storages import Change, Committed, ImmediateStorage, Lease, Record, Storage

MOST_HANDOVERS = 32
"""How many updates in a row may take a key over from each other before other processes get it."""


class Acquired(Struct, frozen=True, gc=False):
    """A key that this process holds, with the lease that protects it from other processes."""

    record: Record | None
    lease: Lease | None
    handovers: int = 0
    """How many updates in a row have taken the lease over from each other."""
    since: float = 0.0
    """When the key was locked in the storage, by the steady clock."""


class Coordinator:
    """The core's operations on a storage, one key at a time."""

    __slots__ = (
        "__weakref__",
        "_cache",
        "_commits",
        "_immediate",
        "_locks",
        "_reads",
        "_shared",
        "immediate",
        "leases",
        "lifecycle",
        "lock_order",
        "queue",
        "storage",
    )

    def __init__(self, storage: Storage) -> None:
        self.storage: Storage = storage
        self._shared = storage.shared
        self._immediate: ImmediateStorage | None = _as_immediate(storage)
        self.immediate: bool = self._immediate is not None
        """No call ever waits."""
        self.lock_order: tuple[str, int] = (repr(storage) if storage.shared else "", next(_numbers))
        """Its position in the order in which keys of several storages are locked, which is the same in all programs."""
        self.lifecycle: Lifecycle = Lifecycle(storage, self)
        self.forget()

    def forget(self) -> None:
        """Start from scratch: no waiters, no locks, no calls under way."""
        storage = self.storage
        self.queue: KeyQueue[Acquired] = KeyQueue(self._give_back)
        self.leases: LeaseRenewer = LeaseRenewer(storage)
        self._cache: LeaseCache[Acquired] = LeaseCache(self._give_back)
        self._reads: Batcher[str, Record | None] = batcher_for(storage, storage.read_many)
        self._commits = CommitQueue(storage, lost=self.leases.drop)
        self._locks = Locks(storage, self.leases, self._commits.unlock, self.read, self.queue)

    async def drain(self) -> None:
        """Release all leases, and wait until nothing is waiting or under way."""
        self._cache.give_back_all()
        for lease in self.leases.held():  # by sessions that outlive their managers, and can no longer commit
            self.leases.drop(lease)
            self._commits.unlock(lease)
        for calls in (self._reads, self._locks, self._commits):
            await calls.drain()

    def halt(self) -> None:
        """Stop renewing leases and retrying."""
        self.leases.stop()
        self._commits.halt()

    async def read(self, key: str) -> Record | None:
        """Read without locking."""
        if self._immediate is not None:
            return self._immediate.read(key)
        batch = self._reads.add(key, key)
        await batch.done
        return batch.result(key)

    async def commit(self, change: Change, note: Callable[[Committed], object] | None = None) -> Committed:
        """Make one change, and keep the key.

        Args:
            change: what to do.
            note: called when the change was made, even if the waiting task was cancelled meanwhile.

        Raises:
            SessionConflictError: another version is stored than the change expects.
        """
        if change.lease is None and (kept := self._cache.take(change.key)) is not None:
            self._give_back(kept)  # its record is about to be outdated
        if self._immediate is not None:
            committed = made(change, self._immediate.commit(change))
        else:
            sent = self._commits.send(change)
            try:
                await sent.done
            except asyncio.CancelledError:
                with contextlib.suppress(Exception):
                    if note is not None:
                        note(made(change, sent.result(change.key)))
                raise
            committed = made(change, sent.result(change.key))
        if note is not None:
            note(committed)
        return committed

    # Acquiring a key.

    def try_acquire(self, key: str) -> Acquired | None:
        """Acquire a key without waiting; `None` if that is not possible."""
        if self._immediate is not None:
            return self._acquire_immediately(key, self._immediate)
        kept = self._cache.take(key)  # the queue of its key is then empty
        if kept is None or kept.lease is None:
            return None
        if not self.leases.certainly_held(kept.lease):
            self._give_back(kept)  # this process was stopped for too long, and another one may have written
            return None
        self.queue.try_enter(key, asyncio.current_task(self.lifecycle.loop))
        return kept

    async def acquire(self, key: str, timeout: float | None, lease_seconds: float) -> Acquired:
        """Wait in the queue of this process, then for the lock in the storage, which reads the record in the same trip.

        Args:
            key: the session key.
            timeout: seconds for which the key may make no progress; `None`: wait for ever.
            lease_seconds: how long the key stays locked if this process dies.

        Raises:
            SessionLockTimeoutError: the key made no progress for `timeout` seconds.
            SessionError: the key is held by this task, or by one that waits for it.
        """
        acquired = await self.enter_queue(key, timeout)
        if acquired is not None:
            return acquired
        try:
            return await self.lock(key, timeout, lease_seconds)
        except BaseException:
            self.queue.release(key)
            raise

    async def enter_queue(self, key: str, timeout: float | None) -> Acquired | None:
        """Wait in the queue of this process. Returns the handover of the holder before, if there is one."""
        if self._immediate is None and (kept := self.try_acquire(key)) is not None:
            return kept
        if self.queue.try_enter(key, asyncio.current_task(self.lifecycle.loop)):
            return None
        handover = await self.queue.wait(key, timeout)
        return None if handover is None else self._unexpired(handover)

    async def lock(self, key: str, timeout: float | None, lease_seconds: float) -> Acquired:
        """Wait for the lock in the storage, once the key is entered in the queue."""
        if not self._shared:
            return Acquired(await self.read(key), None)
        request = self._locks.request(key, lease_seconds)
        locked = await self._locks.attempt(request) or await self._locks.wait(request, timeout)
        return Acquired(locked.record, locked.lease, since=time.monotonic())

    async def try_lock(self, key: str, lease_seconds: float) -> Acquired | None:
        """`lock` without waiting; `None` if another process holds the key."""
        if not self._shared:
            return Acquired(await self.read(key), None)
        request = self._locks.request(key, lease_seconds)
        locked = await self._locks.attempt(request)
        if locked is None:
            self._locks.abandon(request)
            return None
        return Acquired(locked.record, locked.lease, since=time.monotonic())

    async def unlock(self, acquired: Acquired) -> None:
        """Undo `lock` or `try_lock`, and stay entered in the queue."""
        if acquired.lease is not None:
            self.leases.drop(acquired.lease)
            await self._commits.unlock(acquired.lease)

    # Leaving a key.

    def commit_immediately(self, change: Change | None, key: str) -> Committed | None:
        """`commit_and_release` for a storage that is `immediate`."""
        assert self._immediate is not None
        try:
            return None if change is None else made(change, self._immediate.commit(change))
        finally:
            self.queue.release(key)

    def commit_and_release(
        self, key: str, acquired: Acquired, before: Record | None, change: Change | None
    ) -> Coroutine[Any, Any, Committed | None]:
        """Commit and unlock in one trip, then let the next update of this key run.

        While updates of the key wait in this process, the lease passes to the next of them instead, together with
        the session as this one leaves it. The next one begins immediately, before that is durable; this one ends
        when it is.

        Args:
            key: the session key.
            acquired: returned by `acquire`.
            before: what is stored before this commit.
            change: the change, under the lease of `acquired`; `None`: nothing to commit.

        Returns:
            What is stored now; `None` when there was nothing to commit.

        Raises:
            SessionConflictError: another version is stored than the change expects, or what the update before handed
                over could not be stored.
        """
        lease = acquired.lease
        if lease is None:
            return self._commit_local(key, change)
        single_process, has_waiters = self.storage.single_process, self.queue.has_waiters(key)
        if single_process:
            is_overdue = time.monotonic() - acquired.since >= LONGEST_KEPT
        else:
            is_overdue = acquired.handovers >= MOST_HANDOVERS
        if is_overdue:  # another process may wait for the key
            return self._commit_and_give_back(key, lease, change)
        if has_waiters and self.leases.certainly_held(lease):  # else another process may have changed it since
            return self._commit_and_hand_over(key, acquired, lease, before, change)
        if single_process and not has_waiters and self._cache.may_keep(before, change):
            return self._commit_and_keep(key, acquired, lease, before, change)
        return self._commit_and_give_back(key, lease, change)

    def release(self, key: str, acquired: Acquired) -> Coroutine[Any, Any, Committed | None]:
        """Release the key without a commit and without a handover, because what is stored is not known."""
        if acquired.lease is None:
            return self._commit_local(key, None)
        return self._commit_and_give_back(key, acquired.lease, None)

    async def wait_durable(self, lease: Lease) -> None:
        """Wait until what was read under this lease is durable. Raises `SessionConflictError` if it never will be."""
        await self._commits.wait_durable(lease)

    async def _commit_local(self, key: str, change: Change | None) -> Committed | None:
        try:
            return None if change is None else await self.commit(change)
        finally:
            self.queue.release(key)

    async def _commit_and_hand_over(
        self, key: str, acquired: Acquired, lease: Lease, before: Record | None, change: Change | None
    ) -> Committed | None:
        """Let the next update begin with the session as this one leaves it, and wait until that is durable."""
        handover: Acquired | None = None
        try:
            self._commits.check(lease)
            pending = self._commits.uncommitted(lease) if change is None else self._commits.follow(change, lease)
            record = record_after(before, change, pending, self.storage.now)
            handover = Acquired(record, lease, acquired.handovers + 1, acquired.since)
        finally:
            if not self.queue.release(key, handover) and handover is not None:
                self._give_back(handover)
        if pending is None:
            return None
        if change is None:
            return await pending.wait_durable()
        await pending.done
        return pending.result(key)

    async def _commit_and_keep(
        self, key: str, acquired: Acquired, lease: Lease, before: Record | None, change: Change | None
    ) -> Committed | None:
        """Commit, and keep the lease for a moment."""
        committed: Committed | None = None
        kept: Acquired | None = None
        try:
            self._commits.check(lease)
            if change is None:
                await self._commits.wait_durable(lease)
            else:
                sent = self._commits.send(change)
                await sent.done
                committed = made(change, sent.result(key))
            record = record_after(before, change, committed and committed.version, self.storage.now)
            kept = Acquired(record, lease, acquired.handovers, acquired.since)
            return committed
        except BaseException:
            self.leases.drop(lease)
            self._commits.unlock(lease)
            raise
        finally:
            if not self.queue.release(key, kept) and kept is not None:
                self._cache.keep(key, kept)

    async def _commit_and_give_back(self, key: str, lease: Lease, change: Change | None) -> Committed | None:
        """Commit and release the lease in one trip."""
        try:
            self._commits.check(lease)
            if change is not None:
                self.leases.drop(lease)
                sent = self._commits.send(replace(change, unlock=True))
                await sent.done
                return made(change, sent.result(key))
            try:
                await self._commits.wait_durable(lease)
            finally:
                self.leases.drop(lease)
                unlocked = self._commits.unlock(lease)
            await unlocked
            return None
        except StorageError:
            if change is not None:  # the storage may not have unlocked the key either
                self._commits.unlock(lease)
            raise
        finally:
            self.queue.release(key)

    def _acquire_immediately(self, key: str, storage: ImmediateStorage) -> Acquired | None:
        if not self.queue.try_enter(key, asyncio.current_task(self.lifecycle.loop)):
            return None
        try:
            return Acquired(storage.read(key), None)
        except BaseException:
            self.queue.release(key)
            raise

    def _give_back(self, acquired: Acquired) -> None:
        if acquired.lease is not None:
            self.leases.drop(acquired.lease)
            self._commits.unlock(acquired.lease)

    def _unexpired(self, handover: Acquired) -> Acquired:
        record = handover.record
        if record is None or record.expires_at is None or record.expires_at > self.storage.now():
            return handover
        return Acquired(None, handover.lease, handover.handovers, handover.since)


_numbers = count()

_coordinators: Companions[Storage, Coordinator] = Companions(Coordinator)


def coordinator_of(storage: Storage) -> Coordinator:
    """The coordinator that all managers of this storage object share."""
    return _coordinators.of(storage)


def _as_immediate(storage: Storage) -> ImmediateStorage | None:
    """The storage, if it can be called for one key at a time and without a coroutine."""
    if storage.shared or not isinstance(storage, ImmediateStorage):
        return None
    kind = type(storage)
    own = (kind.read_many, kind.commit_many) == (ImmediateStorage.read_many, ImmediateStorage.commit_many)
    return storage if own else None

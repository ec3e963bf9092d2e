"""Sends changes to the storage: together with those of other keys, and after those of the same key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from chatsession.coordination.batching import Batch, Batcher, UncancellableFuture, log_failure
from chatsession.coordination.group_commit import CommitPipeline, PendingCommit, never_stored, with_known_version
from chatsession.coordination.lanes import batcher_for
from chatsession.errors import StorageUnavailableError
from chatsession.storages import Change, Lease, Outcome, Storage
from chatsession.storages.base import KEEP

_UNLOCK_TRIES = 10
_UNLOCK_PAUSE = 1.0
"""Seconds between tries to unlock a key."""


class CommitQueue:
    """All changes of one storage.

    Args:
        storage: where they are made.
        lost: called with a lease under which nothing more can be written, and which has been released.
    """

    __slots__ = ("_batches", "_lost", "_pipelines", "_retries")

    def __init__(self, storage: Storage, lost: Callable[[Lease], None]) -> None:
        self._batches: Batcher[Change, Outcome] = batcher_for(storage, storage.commit_many)
        self._pipelines: dict[Lease, CommitPipeline] = {}
        self._lost = lost
        self._retries: dict[Lease, asyncio.TimerHandle] = {}

    def send(self, change: Change) -> Batch[Change, Outcome] | PendingCommit:
        """Make one change: await `done` of what this returns; then `made` says what the `result` of its key means."""
        if self._pipelines and change.lease is not None and (pipeline := self._pipelines.get(change.lease)) is not None:
            return pipeline.add(change)
        if type(change.expect) is PendingCommit:
            change = with_known_version(change)
        return self._batches.add(change.key, change)

    def follow(self, change: Change, lease: Lease) -> PendingCommit:
        """Make a change whose outcome the next update of the key does not wait for."""
        pipeline = self._pipelines.get(lease)
        if pipeline is None:
            pipeline = self._pipelines[lease] = CommitPipeline(lease, self._batches.add, self._over)
        return pipeline.add(change)

    def uncommitted(self, lease: Lease) -> PendingCommit | None:
        """The commit on which what was read under this lease depends; `None`: it is durable."""
        pipeline = self._pipelines.get(lease) if self._pipelines else None
        return None if pipeline is None else pipeline.last

    async def wait_durable(self, lease: Lease) -> None:
        """Wait until what was read under this lease is durable. Raises `SessionConflictError` if it never will be."""
        if (uncommitted := self.uncommitted(lease)) is not None:
            await uncommitted.wait_durable()

    def check(self, lease: Lease) -> None:
        """Called once by the last update under this lease. Raises `SessionConflictError` if an earlier one failed."""
        pipeline = self._pipelines.get(lease)
        if pipeline is not None and pipeline.failed:
            del self._pipelines[lease]
            raise never_stored(lease.key)

    def unlock(self, lease: Lease) -> UncancellableFuture:
        """Release a lease. The caller may ignore a failure, because the lease expires."""
        pipeline = self._pipelines.get(lease) if self._pipelines else None
        if pipeline is not None and not pipeline.failed:
            return pipeline.add(_unlocking(lease)).done
        self._pipelines.pop(lease, None)
        return self._unlock_at_once(lease)

    def halt(self) -> None:
        """Stop retrying to unlock keys; their leases expire."""
        for timer in self._retries.values():
            timer.cancel()
        self._retries.clear()

    async def drain(self) -> None:
        """Wait until nothing is waiting or under way."""
        while under_way := [pipeline.last.done for pipeline in self._pipelines.values() if not pipeline.failed]:
            await asyncio.wait(under_way)
        await self._batches.drain()

    def _over(self, pipeline: CommitPipeline) -> None:
        if pipeline.closed or not pipeline.failed:
            del self._pipelines[pipeline.lease]
        if pipeline.failed:
            self._lost(pipeline.lease)
            self._unlock_at_once(pipeline.lease)

    def _unlock_at_once(self, lease: Lease, tries: int = 1) -> UncancellableFuture:
        batch = self._batches.add(lease.key, _unlocking(lease))
        batch.done.add_done_callback(partial(self._unlocked, lease, tries, batch))
        return batch.done

    def _unlocked(self, lease: Lease, tries: int, batch: Batch[Change, Outcome], _: object) -> None:
        """Retry if it failed: until the lease expires, no other update could have the key."""
        self._retries.pop(lease, None)
        try:
            batch.result(lease.key)
        except StorageUnavailableError:
            if tries < _UNLOCK_TRIES:
                loop = asyncio.get_running_loop()
                self._retries[lease] = loop.call_later(_UNLOCK_PAUSE, self._unlock_at_once, lease, tries + 1)
            else:
                log_failure(batch, lease.key)
        except Exception:
            log_failure(batch, lease.key)


def _unlocking(lease: Lease) -> Change:
    return Change(lease.key, KEEP, lease=lease, unlock=True)

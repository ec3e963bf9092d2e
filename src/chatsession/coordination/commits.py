"""Changes on their way to the storage: together with those of other keys, and after those of the same key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chatsession.coordination.batching import Batch, Batcher, UncancellableFuture, log_failure
from chatsession.coordination.group_commit import CommitPipeline, PendingCommit, never_stored, with_known_version
from chatsession.coordination.outcomes import made
from chatsession.storages import Change, Committed, Lease, Outcome, Storage
from chatsession.storages.base import KEEP


class SentCommit:
    """A change that nothing of its key is ahead of."""

    __slots__ = ("_batch", "_change", "_place", "done")

    def __init__(self, change: Change, batch: Batch[Change, Outcome], place: int) -> None:
        self.done = batch.done
        self._change = change
        self._batch = batch
        self._place = place

    def result(self) -> Committed:
        """What became of it, after `done`. Raises what it failed with."""
        return made(self._change, self._batch.result(self._place))


class CommitQueue:
    """All changes of one storage.

    Args:
        storage: where they are made.
        lost: told of a lease under which nothing more can be written, and which is given back already.
    """

    __slots__ = ("_batches", "_chains", "_lost")

    def __init__(self, storage: Storage, lost: Callable[[Lease], None]) -> None:
        self._batches: Batcher[Change, Outcome] = Batcher(
            storage.commit_many, size=storage.batch_size, in_flight=storage.batches_in_flight
        )
        self._chains: dict[Lease, CommitPipeline] = {}
        self._lost = lost

    def send(self, change: Change) -> SentCommit | PendingCommit:
        """Make one change, to be waited for by its `done`; its `result` then tells what became of it."""
        if self._chains and change.lease is not None and (chain := self._chains.get(change.lease)) is not None:
            return chain.add(change)
        change = with_known_version(change)
        batch, place = self._batches.add(change.key, change)
        return SentCommit(change, batch, place)

    def follow(self, change: Change, lease: Lease) -> PendingCommit:
        """Make a change whose outcome the next update of the key does not wait for."""
        chain = self._chains.get(lease)
        if chain is None:
            chain = self._chains[lease] = CommitPipeline(lease, self._send, self._over)
        return chain.add(change)

    def uncommitted(self, lease: Lease) -> PendingCommit | None:
        """What has to land before anything that was seen under this lease is certain; `None`: it is certain."""
        chain = self._chains.get(lease) if self._chains else None
        return None if chain is None else chain.last

    async def wait_durable(self, lease: Lease) -> None:
        """Wait until everything that was seen under this lease is durable. Raises `SessionConflictError` if not."""
        if (uncommitted := self.uncommitted(lease)) is not None:
            await uncommitted.wait_durable()

    def check(self, lease: Lease) -> None:
        """Called once by the last one that was given something under this lease."""
        chain = self._chains.get(lease)
        if chain is not None and chain.failed:
            del self._chains[lease]
            raise never_stored(lease.key)

    def unlock(self, lease: Lease) -> UncancellableFuture:
        """Give a lease back; should that fail, nobody need care, because the lease ends by itself."""
        chain = self._chains.get(lease) if self._chains else None
        if chain is not None and not chain.failed:
            return chain.add(_unlocking(lease)).done
        self._chains.pop(lease, None)
        return self._unlock_at_once(lease)

    async def drain(self) -> None:
        """Wait until nothing is waiting or under way."""
        while under_way := [chain.last.done for chain in self._chains.values() if not chain.failed]:
            await asyncio.wait(under_way)
        await self._batches.drain()

    def _send(self, change: Change) -> tuple[Batch[Change, Outcome], int]:
        return self._batches.add(change.key, change)

    def _over(self, chain: CommitPipeline) -> None:
        if chain.closed or not chain.failed:
            del self._chains[chain.lease]
        if chain.failed:
            self._lost(chain.lease)
            self._unlock_at_once(chain.lease)

    def _unlock_at_once(self, lease: Lease) -> UncancellableFuture:
        batch, place = self._batches.add(lease.key, _unlocking(lease))
        batch.done.add_done_callback(lambda _: log_failure(batch, place))
        return batch.done


def _unlocking(lease: Lease) -> Change:
    return Change(lease.key, KEEP, lease=lease, unlock=True)

"""Lets updates of a busy chat run before the one ahead of them is durable.

While updates of one key wait in this process, each begins with the session as the one before left it, and their changes
follow each other to the storage under the same lease. One commit is under way at a time; the changes that come
meanwhile make up the next, which writes only the last value (a group commit, like that of a database's log).

No update is done before its own commit is durable. If a commit fails, every update after it fails as well: those
updates were given something that was never stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from chatsession.coordination.batching import Batch, UncancellableFuture, again
from chatsession.coordination.outcomes import verdict
from chatsession.errors import SessionConflictError
from chatsession.storages import Change, Committed, Lease, Outcome, Record, Version
from chatsession.storages.base import ANYTHING, KEEP, PUT


class PendingCommit:
    """Changes that are committed together. Until then, it stands for the version that it will make."""

    __slots__ = ("_outcome", "change", "done", "version")

    def __init__(self, change: Change) -> None:
        self.change: Change = change
        self.done: UncancellableFuture = UncancellableFuture()
        self.version: Version | None = None
        self._outcome: Committed | BaseException | None = None

    def resolve(self, outcome: Committed | BaseException) -> None:
        """Set the outcome."""
        self._outcome = outcome
        if isinstance(outcome, Committed):
            self.version = outcome.version
        self.change = Change(self.change.key, KEEP)  # this object may live on as a version; its value need not
        self.done.set_result(None)

    def result(self, key: str) -> Committed:
        """As `Batch.result`."""
        assert self._outcome is not None
        if isinstance(self._outcome, Committed):
            return self._outcome
        raise again(self._outcome)

    async def wait_durable(self) -> None:
        """Wait until it is durable. Raises `SessionConflictError` if it never will be."""
        await self.done
        if not isinstance(self._outcome, Committed):
            raise never_stored(self.change.key)


class CommitPipeline:
    """The changes of one key under one lease, from the first handover until nothing is under way.

    Args:
        lease: the lease.
        send: sends a change of a key to the storage.
        over: called when all commits are durable, and when one has failed.
    """

    __slots__ = ("_over", "_pending", "_send", "closed", "failed", "last", "lease")

    def __init__(
        self,
        lease: Lease,
        send: Callable[[str, Change], Batch[Change, Outcome]],
        over: Callable[[CommitPipeline], None],
    ) -> None:
        self.lease: Lease = lease
        self.closed: bool = False
        """The last commit releases the lease, and nothing follows."""
        self.failed: bool = False
        self.last: PendingCommit
        """The commit that is durable only if everything before it is."""
        self._pending: deque[PendingCommit] = deque()
        self._send = send
        self._over = over

    def add(self, change: Change) -> PendingCommit:
        """Let a change follow the others. Raises `SessionConflictError` if one of those has failed."""
        if self.failed:
            raise never_stored(change.key)
        self.closed = change.unlock
        if len(self._pending) > 1 and (joined := _joined(self.last.change, change)) is not None:
            self.last.change = joined
        else:
            self.last = PendingCommit(change)
            self._pending.append(self.last)
            if len(self._pending) == 1:
                self._start()
        return self.last

    def _start(self) -> None:
        pending = self._pending[0]
        change = pending.change = with_known_version(pending.change)
        batch = self._send(change.key, change)
        batch.done.add_done_callback(partial(self._answered, change, batch))

    def _answered(self, change: Change, batch: Batch[Change, Outcome], _: object) -> None:
        outcome: Committed | BaseException
        try:
            outcome = verdict(change, batch.result(change.key))
        except Exception as failure:
            outcome = failure
        self._pending.popleft().resolve(outcome)
        if not isinstance(outcome, Committed):
            self.failed = True
            for pending in self._pending:
                pending.resolve(never_stored(change.key))
        elif self._pending:
            self._start()
            return
        self._over(self)


def never_stored(key: str) -> SessionConflictError:
    """The error of updates that follow a failed one."""
    return SessionConflictError(
        "the update before it, whose data it was given, could not be stored; nothing of this one was written, "
        "handle it again if it must count",
        key=key,
    )


def with_known_version(change: Change) -> Change:
    """The change with the version that it expects, in place of the commit that has made it."""
    if type(change.expect) is PendingCommit:
        return replace(change, expect=change.expect.version)
    return change


def same_version(before: Record | None, now: Record | None) -> bool:
    """Whether a session is still what it was, once all commits before are durable."""
    if before is None or now is None:
        return before is now
    version = before.version
    return (version.version if isinstance(version, PendingCommit) else version) == now.version


def _joined(waiting: Change, change: Change) -> Change | None:
    """Both changes in one, if the result is the same."""
    if change.action is KEEP:
        return replace(waiting, unlock=change.unlock)
    if waiting.action is PUT and change.action is PUT:
        # A session that expires is written whatever is stored, for it may have expired meanwhile.
        anything = change.expect is ANYTHING
        return replace(change, expect=ANYTHING if anything else waiting.expect, expect_until=waiting.expect_until)
    return None

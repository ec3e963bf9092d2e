"""Updates of a busy chat that go on before the one ahead of them is durable.

While updates of one key wait in this process, each begins with what the one before it has made, and their changes
follow each other to the storage under the same lease. One flight of them is under way at a time; those that come
meanwhile make up the next, of which only the last value is written (a group commit, as databases make of their log).

No update is done before its own flight has landed. Should a flight fail, everything after it fails as well: those
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
from chatsession.storages import Change, Committed, Lease, Outcome, Version
from chatsession.storages.base import ANYTHING, KEEP, PUT


class PendingCommit:
    """Changes that travel together. Until it has landed, it stands for the version that it makes."""

    __slots__ = ("_outcome", "change", "done", "version")

    def __init__(self, change: Change) -> None:
        self.change: Change = change
        self.done: UncancellableFuture = UncancellableFuture()
        self.version: Version | None = None
        self._outcome: Committed | BaseException | None = None

    def resolve(self, outcome: Committed | BaseException) -> None:
        """It is over."""
        self._outcome = outcome
        if isinstance(outcome, Committed):
            self.version = outcome.version
        self.change = Change(self.change.key, KEEP)  # what stands for a version may stay, its value need not
        self.done.set_result(None)

    def result(self) -> Committed:
        """What became of it, after `done`. Raises what its changes failed with."""
        assert self._outcome is not None
        if isinstance(self._outcome, Committed):
            return self._outcome
        raise again(self._outcome)

    async def wait_durable(self) -> None:
        """Wait until what it made is durable. Raises `SessionConflictError` if it never will be."""
        await self.done
        if not isinstance(self._outcome, Committed):
            raise never_stored(self.change.key)


class CommitPipeline:
    """The changes of one key under one lease, from the first hand-over until nothing is under way any more.

    Args:
        lease: the lease.
        send: brings a change to the storage.
        over: told when all flights have landed, and when one has failed.
    """

    __slots__ = ("_flights", "_over", "_send", "closed", "failed", "last", "lease")

    def __init__(
        self,
        lease: Lease,
        send: Callable[[Change], tuple[Batch[Change, Outcome], int]],
        over: Callable[[CommitPipeline], None],
    ) -> None:
        self.lease: Lease = lease
        self.closed: bool = False
        """The lease is given back by the last flight, and nothing follows."""
        self.failed: bool = False
        self.last: PendingCommit
        """What everything up to now is part of, or comes before."""
        self._flights: deque[PendingCommit] = deque()
        self._send = send
        self._over = over

    def add(self, change: Change) -> PendingCommit:
        """Let a change follow the others. Raises `SessionConflictError` if one of those has failed."""
        if self.failed:
            raise never_stored(change.key)
        self.closed = change.unlock
        if len(self._flights) > 1 and (joined := _joined(self.last.change, change)) is not None:
            self.last.change = joined
        else:
            self.last = PendingCommit(change)
            self._flights.append(self.last)
            if len(self._flights) == 1:
                self._start()
        return self.last

    def _start(self) -> None:
        flight = self._flights[0]
        change = flight.change = with_known_version(flight.change)
        batch, place = self._send(change)
        batch.done.add_done_callback(partial(self._landed, change, batch, place))

    def _landed(self, change: Change, batch: Batch[Change, Outcome], place: int, _: object) -> None:
        outcome: Committed | BaseException
        try:
            outcome = verdict(change, batch.result(place))
        except Exception as failure:
            outcome = failure
        self._flights.popleft().resolve(outcome)
        if not isinstance(outcome, Committed):
            self.failed = True
            for flight in self._flights:
                flight.resolve(never_stored(change.key))
        elif self._flights:
            self._start()
            return
        self._over(self)


def never_stored(key: str) -> SessionConflictError:
    """The error of updates that come after one that failed."""
    return SessionConflictError(
        "the update before it, whose data it was given, could not be stored; nothing of this one was written, "
        "handle it again if it must count",
        key=key,
    )


def with_known_version(change: Change) -> Change:
    """The change, with the version that it expects in the place of the flight that made it."""
    if type(change.expect) is PendingCommit:
        return replace(change, expect=change.expect.version)
    return change


def _joined(waiting: Change, change: Change) -> Change | None:
    """Both in one, if nobody can tell the difference afterwards."""
    if change.action is KEEP:
        return replace(waiting, unlock=change.unlock)
    if waiting.action is PUT and change.action is PUT:
        # A session that expires is written whatever is stored, for it may have expired meanwhile.
        anything = change.expect is ANYTHING
        return replace(change, expect=ANYTHING if anything else waiting.expect, expect_until=waiting.expect_until)
    return None

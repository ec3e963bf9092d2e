"""Storages with one thing wrong each, for which the conformance suite must go red."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from chatsession import MemoryStorage
from chatsession.storages import (
    Action,
    Change,
    Committed,
    Expect,
    Lease,
    Locked,
    LockRequest,
    Outcome,
    Page,
    Record,
    Refused,
)


class IgnoresVersions(MemoryStorage):
    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        return await super().commit_many([msgspec.structs.replace(each, expect=Expect.ANYTHING) for each in changes])


class IgnoresLeases(MemoryStorage):
    def _holds(self, lease: Lease) -> bool:
        self._locks.setdefault(lease.key, (lease, 0.0))
        return True


class IgnoresEndedLeases(MemoryStorage):
    """A commit takes any lease for good unless somebody else holds the key right now."""

    def _holds(self, lease: Lease) -> bool:
        held = self._locks.setdefault(lease.key, (lease, 0.0))
        return held[0] == lease or held[1] <= self._clock()


class LocksTwice(MemoryStorage):
    def _lock(self, request: LockRequest) -> Locked | None:
        self._locks.pop(request.key, None)
        return super()._lock(request)


class NeverFreesDeadHolders(MemoryStorage):
    def _lock(self, request: LockRequest) -> Locked | None:
        return None if request.key in self._locks else super()._lock(request)


class IsUnfair(MemoryStorage):
    def _lock(self, request: LockRequest) -> Locked | None:
        self._queues.pop(request.key, None)
        return super()._lock(request)


class KeepsAbandonedWishes(MemoryStorage):
    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        pass


class StaysLockedOnConflict(MemoryStorage):
    def commit(self, change: Change) -> Outcome:
        held = self._locks.get(change.key)
        outcome = super().commit(change)
        if outcome is Refused.CONFLICT and held is not None:
            self._locks[change.key] = held
        return outcome


class DoesNotRenew(MemoryStorage):
    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        return [True for _ in leases]


class StartsTokensAgain(MemoryStorage):
    def _lock(self, request: LockRequest) -> Locked | None:
        locked = super()._lock(request)
        if locked is None:
            return None
        lease = Lease(request.key, 1)
        _, until, waiter = self._locks[request.key]
        self._locks[request.key] = (lease, until, waiter)
        return Locked(lease, locked.record)


class FoldsCase(MemoryStorage):
    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | None]:
        return await super().read_many([key.lower() for key in keys])

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        return await super().commit_many([msgspec.structs.replace(each, key=each.key.lower()) for each in changes])


class LocksByPrefix(MemoryStorage):
    """Names the lock of a key so that it meets another key's."""

    def _lock(self, request: LockRequest) -> Locked | None:
        locked = super()._lock(LockRequest(request.key.strip("/"), request.waiter, request.seconds))
        return locked and Locked(Lease(request.key, locked.lease.token), self.read(request.key))


class TakesEmptyForMissing(MemoryStorage):
    def read(self, key: str) -> Record | None:
        record = super().read(key)
        return record if record and record.value else None


class NeverExpires(MemoryStorage):
    def read(self, key: str) -> Record | None:
        return self._records.get(key)


class BringsBackTheDead(MemoryStorage):
    """A late update of a deleted or expired record creates it anew."""

    def commit(self, change: Change) -> Outcome:
        gone = self.read(change.key) is None and change.expect is not None
        return super().commit(msgspec.structs.replace(change, expect=Expect.ANYTHING) if gone else change)


class TouchRewrites(MemoryStorage):
    def commit(self, change: Change) -> Outcome:
        if change.action is Action.TOUCH and self.read(change.key):
            change = msgspec.structs.replace(change, action=Action.PUT, expect=Expect.ANYTHING)
        return super().commit(change)


class TouchDoesNothing(MemoryStorage):
    def commit(self, change: Change) -> Outcome:
        if change.action is Action.TOUCH:
            change = msgspec.structs.replace(change, action=Action.KEEP)
        return super().commit(change)


class PutKeepsTheOldEnd(MemoryStorage):
    def commit(self, change: Change) -> Outcome:
        before = self.read(change.key)
        outcome = super().commit(change)
        if before is not None and change.action is Action.PUT and change.ttl is None and type(outcome) is Committed:
            self._records[change.key] = Record(change.value, outcome.version, before.expires_at)
        return outcome


class SweepsWhatWasPutAgain(MemoryStorage):
    async def sweep(self, limit: int = 1000) -> int:
        for key in [key for when, key in self._deadlines if when <= self._clock()]:
            self._remove(key)
        return await super().sweep(limit)


class MixesUpBatches(MemoryStorage):
    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | None]:
        return (await super().read_many(keys))[::-1]


class TakesPrefixesForPatterns(MemoryStorage):
    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        page = await super().scan("", cursor, limit)
        return Page([entry for entry in page.entries if entry[0].lower().startswith(prefix.lower())], page.cursor)


class SkipsWhatMoves(MemoryStorage):
    """Pages by position: a deletion meanwhile moves what comes later to the front."""

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        start = int(cursor or 0)
        keys = [key for key in self._records if key.startswith(prefix)][start : start + limit]
        entries = [(key, record) for key in keys if (record := self.read(key)) is not None]
        return Page(entries, str(start + limit) if len(keys) == limit else None)

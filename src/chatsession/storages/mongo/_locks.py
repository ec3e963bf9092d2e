"""Locks keys and reads them, or queues requests in the document."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from functools import partial

from pymongo import UpdateMany, UpdateOne
from pymongo.errors import OperationFailure, WriteConcernError

from chatsession.errors import StorageError
from chatsession.storages.base import Lease, Locked, LockRequest
from chatsession.storages.mongo._calls import Calls
from chatsession.storages.mongo._errors import DUPLICATE_KEY, passes, refusal
from chatsession.storages.mongo._records import STORED_FIELDS, Document, lock_in, record_in, seconds_locked
from chatsession.storages.mongo._statements import (
    FREE,
    UNLOCK,
    held,
    holds,
    leave_queue,
    lock,
    lock_or_queue,
    lock_together,
    renew,
)
from chatsession.storages.mongo._wakeups import Wakeups

_LONGEST_SLEEP = 1.0
"""Seconds. A waiter that has not repeated its request for three seconds counts as dead."""
_FEW = 4
"""Keys that are locked and read in one round trip, by a statement for each. More share statements, which costs a round
trip more and a fraction of the work."""
_FIELDS = {**STORED_FIELDS, "lock": True, "token": True}


class Locks:
    """The locks of an open storage.

    Args:
        calls: to the collection.
        wakeups: `None`: waiters poll.
    """

    def __init__(self, calls: Calls, wakeups: Wakeups | None) -> None:
        self.calls = calls
        self._key = calls.layout.key
        self.wakeups = wakeups
        self._waiting: set[str] = set()
        """Requests of this process that are in a queue."""

    async def lock(self, requests: Sequence[LockRequest]) -> Sequence[Locked | StorageError | None]:
        """`Storage.lock_many`."""
        documents = await self.calls.run(partial(self._try, requests))
        return [self._granted(request, documents.get(request.key)) for request in requests]

    async def renew(self, seconds: float, leases: Sequence[Lease]) -> Sequence[bool]:
        """`Storage.renew_many`."""

        async def call(_again: bool) -> Sequence[bool]:
            update = renew(seconds, self.calls.now())
            updates = [UpdateOne({self._key: lease.key, **held(lease)}, update) for lease in leases]
            made, _ = await self.calls.write(updates)
            if made == len(leases):
                return [True] * len(leases)
            found = await self.calls.find([lease.key for lease in leases], {"lock": True, "now": "$$NOW"})
            return [holds(lease.token, found.get(lease.key)) for lease in leases]

        return await self.calls.run(call)

    async def abandon(self, requests: Sequence[LockRequest]) -> Sequence[None]:
        """`Storage.abandon_many`."""
        granted = [UpdateOne({self._key: each.key, "lock.waiter": each.waiter}, UNLOCK) for each in requests]
        waiting = [
            UpdateOne({self._key: each.key, "queue.waiter": each.waiter}, leave_queue(each.waiter)) for each in requests
        ]
        await self.calls.run(lambda _: self.calls.write([*granted, *waiting]))
        for request in requests:
            self._stop_waiting(request.waiter)
        return [None] * len(requests)

    async def wait(self, request: LockRequest, attempt: int) -> None:
        """`Storage.wait_unlocked`."""
        if self.wakeups is not None and self.wakeups.listening:
            await self.wakeups.wait(request.waiter, _LONGEST_SLEEP)
        else:
            pause = min(0.004 * 1.5 ** min(attempt, 20), 0.1)
            await asyncio.sleep(pause * random.uniform(0.7, 1.0))

    async def stop(self) -> None:
        """Stop listening."""
        if self.wakeups is not None:
            await self.wakeups.stop()

    async def _try(self, requests: Sequence[LockRequest], again: bool) -> Mapping[str, Document | StorageError | None]:
        """Lock the free keys, and queue for the others. Returns the documents after that."""
        now = self.calls.now()
        waiting = [request for request in requests if again or request.waiter in self._waiting]
        fresh = [request for request in requests if not (again or request.waiter in self._waiting)]
        if len(requests) <= _FEW:
            return await self._try_few(fresh, waiting, now)
        found = await self._make(fresh, waiting, now)
        refused = [request for request in fresh if not _is_granted(request, found.get(request.key))]
        if refused:
            found |= await self._make([], refused, now)
        return found

    async def _make(
        self, fresh: Sequence[LockRequest], waiting: Sequence[LockRequest], now: float
    ) -> dict[str, Document | StorageError]:
        layout = self.calls.layout
        updates: list[UpdateOne | UpdateMany] = [
            UpdateOne({layout.key: each.key}, lock_or_queue(each, now), upsert=True) for each in waiting
        ]
        if fresh:
            updates.append(lock_together(fresh, layout, now))
        _, refused = await self.calls.write(updates)
        found: dict[str, Document | StorageError] = {}
        found |= await self.calls.find([request.key for request in (*waiting, *fresh)], _FIELDS)
        for request, code in ((waiting[place], code) for place, code in refused.items() if place < len(waiting)):
            if code != DUPLICATE_KEY:
                found[request.key] = refusal(code, self.calls.server, request.key)
        return found

    async def _try_few(
        self, fresh: Sequence[LockRequest], waiting: Sequence[LockRequest], now: float
    ) -> dict[str, Document | StorageError | None]:
        tries = [self._try_one(each, now, is_fresh=True) for each in fresh]
        tries += [self._try_one(each, now, is_fresh=False) for each in waiting]
        # Nothing may be left under way when the call fails and is tried again.
        results = await asyncio.gather(*tries, return_exceptions=True)
        found: dict[str, Document | StorageError | None] = {}
        for request, result in zip((*fresh, *waiting), results, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, StorageError):
                raise result
            found[request.key] = result
        return found

    async def _try_one(self, request: LockRequest, now: float, *, is_fresh: bool) -> Document | StorageError | None:
        key = {self._key: request.key}
        found = None
        try:
            if is_fresh:
                found = await self.calls.change({**key, **FREE}, lock(request, now), _FIELDS, upsert=True)
            if not _is_granted(request, found):
                found = await self.calls.change(key, lock_or_queue(request, now), _FIELDS, upsert=True)
        except OperationFailure as error:
            if passes(error) or isinstance(error, WriteConcernError):
                raise
            return refusal(error.code, self.calls.server, request.key)
        return found or (await self.calls.find([request.key], _FIELDS)).get(request.key)

    def _granted(self, request: LockRequest, document: Document | StorageError | None) -> Locked | StorageError | None:
        if isinstance(document, StorageError):
            return document
        waiter = request.waiter
        if document is None or not _is_granted(request, document):
            self._waiting.add(waiter)
            if self.wakeups is not None and document is not None:
                self.wakeups.must_wait(waiter, document["_id"], seconds_locked(document))
            return None
        self._stop_waiting(waiter)
        record = record_in(request.key, document)
        if isinstance(record, StorageError):
            return record
        return Locked(Lease(request.key, int(document["token"])), record)

    def _stop_waiting(self, waiter: str) -> None:
        self._waiting.discard(waiter)
        if self.wakeups is not None:
            self.wakeups.stop_waiting(waiter)


def _is_granted(request: LockRequest, document: Document | StorageError | None) -> bool:
    if document is None or isinstance(document, StorageError):
        return False
    lock = lock_in(document)
    return lock.get("waiter") == request.waiter and lock.get("token") == document.get("token")

"""Sessions in this process's memory: fast, and gone when it ends."""

from __future__ import annotations

import heapq
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import count
from typing import ClassVar
from urllib.parse import SplitResult

from chatsession.errors import StorageError
from chatsession.storages._shared.seconds import is_seconds
from chatsession.storages.base import (
    ANYTHING,
    CONFLICT,
    DELETE,
    LEASE_LOST,
    PUT,
    TOUCH,
    Change,
    Committed,
    ImmediateStorage,
    Lease,
    Locked,
    LockRequest,
    Outcome,
    Page,
    Record,
)
from chatsession.storages.inspection import HeldLock
from chatsession.storages.urls import options


class MemoryStorage(ImmediateStorage):
    """Keeps encoded bytes, never live objects, so that a failing handler cannot leave half a change behind.

    Durability: none; the sessions last as long as this object. Expired records are freed by later commits of any
    key, without being read.

    Args:
        time_to_live: seconds after the last access at which a session is forgotten, unless its manager has a `ttl`
            of its own; `None`: never.
        clock: returns Unix time in seconds.

    Examples:
        >>> from chatsession import MemoryStorage, SessionManager
        >>> sessions = SessionManager(dict[str, int], storage=MemoryStorage(time_to_live=3600))
    """

    shared: ClassVar[bool] = False

    def __init__(self, time_to_live: float | None = None, *, clock: Callable[[], float] = time.time) -> None:
        if time_to_live is not None and not is_seconds(time_to_live):
            raise ValueError(f"time_to_live is in seconds and must be positive, not {time_to_live!r}")
        self.time_to_live = time_to_live
        self._clock = clock
        self._records: dict[str, Record] = {}
        self._numbers = count(1)
        self._locks: dict[str, tuple[Lease, float, str]] = {}  # with the end of the lease, and the waiter that holds it
        self._queues: dict[str, list[str]] = {}
        # When to check whether a record has expired; an entry is stale once its key is watched for another time.
        self._deadlines: list[tuple[float, str]] = []
        self._watched: dict[str, float] = {}
        # The order in which keys were added, for enumeration; an entry is stale once its key is gone or added again.
        self._order: list[tuple[int, str]] = []
        self._places: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<MemoryStorage: {len(self._records)} sessions>"

    def now(self) -> float:
        return self._clock()

    def read(self, key: str) -> Record | None:
        record = self._records.get(key)
        if record is None or record.expires_at is None or record.expires_at > self._clock():
            return record
        return None

    def commit(self, change: Change) -> Outcome:
        if self._deadlines:
            self._free_expired(2)
        key, action, lease = change.key, change.action, change.lease
        if lease is not None:
            if not self._holds(lease):
                return LEASE_LOST
            if change.unlock:
                del self._locks[key]
        record = self.read(key)
        version = None if record is None else record.version
        if change.expect is not ANYTHING and change.expect != version and not change.accepts(version, self._clock()):
            return CONFLICT
        if action is PUT:
            version = next(self._numbers)
            if key not in self._records:
                self._places[key] = version
                self._order.append((version, key))
            self._records[key] = Record(
                change.value, version, None if change.ttl is None else self._expiry(key, change.ttl)
            )
        elif action is DELETE:
            self._remove(key)
            version = None
        elif action is TOUCH and record is not None:
            self._records[key] = Record(
                record.value, version, None if change.ttl is None else self._expiry(key, change.ttl)
            )
        return Committed(version)

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | None]:
        return [self._lock(request) for request in requests]

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        until = self._clock() + seconds
        held = [self._holds(lease) for lease in leases]
        for lease, mine in zip(leases, held, strict=True):
            if mine:
                self._locks[lease.key] = (lease, until, self._locks[lease.key][2])
        return held

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        for request in requests:
            self._leave_queue(request)
            held = self._locks.get(request.key)
            if held is not None and held[2] == request.waiter:
                del self._locks[request.key]

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        # The first page fixes the end; otherwise keys that are added meanwhile could keep an enumeration from ending.
        start, end = _numbers_in(cursor) if cursor else (0, next(self._numbers))
        begin = bisect_left(self._order, (start, ""))
        part = self._order[begin : min(begin + limit, bisect_left(self._order, (end, "")))]
        entries = [
            (key, record)
            for place, key in part
            if key.startswith(prefix) and self._places.get(key) == place and (record := self.read(key)) is not None
        ]
        return Page(entries, f"{part[-1][0] + 1}-{end}" if len(part) == limit else None)

    async def sweep(self, limit: int = 1000) -> int:
        return self._free_expired(limit)

    async def list_locks(self, prefix: str, limit: int) -> Sequence[HeldLock]:
        now = self._clock()
        held = [
            HeldLock(key, lease.token, until, waiters=len(self._queues.get(key, ())))
            for key, (lease, until, _) in sorted(self._locks.items())
            if until > now and key.startswith(prefix)
        ]
        return held[:limit]

    async def count_expired(self) -> int:
        now = self._clock()
        return sum(record.expires_at is not None and record.expires_at <= now for record in self._records.values())

    def _remove(self, key: str) -> None:
        if self._records.pop(key, None) is None:
            return
        del self._places[key]
        if len(self._order) > 2 * len(self._places) + 64:
            self._order = [entry for entry in self._order if self._places.get(entry[1]) == entry[0]]
        if self._watched.pop(key, None) is not None and len(self._deadlines) > 2 * len(self._watched) + 64:
            self._deadlines = [(when, key) for key, when in self._watched.items()]
            heapq.heapify(self._deadlines)

    def _expiry(self, key: str, ttl: float) -> float:
        expires_at = self._clock() + ttl
        # A record that is watched for an earlier time is checked then, and watched again: a touch adds no entry.
        if expires_at < self._watched.get(key, math.inf):
            self._watch(key, expires_at)
        return expires_at

    def _watch(self, key: str, when: float) -> None:
        self._watched[key] = when
        heapq.heappush(self._deadlines, (when, key))

    def _free_expired(self, limit: int) -> int:
        freed = 0
        now = self._clock()
        while self._deadlines and self._deadlines[0][0] <= now and limit > 0:
            limit -= 1
            when, key = heapq.heappop(self._deadlines)
            if self._watched.get(key) != when:
                continue
            del self._watched[key]
            expires_at = self._records[key].expires_at
            if expires_at is None:
                continue
            if expires_at <= now:
                self._remove(key)
                freed += 1
            else:
                self._watch(key, expires_at)
        return freed

    def _lock(self, request: LockRequest) -> Locked | None:
        key, waiter = request.key, request.waiter
        held = self._locks.get(key)
        queue = self._queues.get(key, [])
        busy = held is not None and held[1] > self._clock()
        if busy or (queue and queue[0] != waiter):
            if waiter not in queue:
                self._queues.setdefault(key, []).append(waiter)
            return None
        self._leave_queue(request)
        lease = Lease(key, next(self._numbers))
        self._locks[key] = (lease, self._clock() + request.seconds, waiter)
        return Locked(lease, self.read(key))

    def _leave_queue(self, request: LockRequest) -> None:
        queue = self._queues.get(request.key)
        if queue is None or request.waiter not in queue:
            return
        queue.remove(request.waiter)
        if not queue:
            del self._queues[request.key]

    def _holds(self, lease: Lease) -> bool:
        held = self._locks.get(lease.key)
        return held is not None and held[0] == lease and held[1] > self._clock()


def _numbers_in(cursor: str) -> tuple[int, int]:
    try:
        start, end = map(int, cursor.split("-"))
    except ValueError:
        raise StorageError("this is no cursor of an enumeration in memory") from None
    return start, end


def from_url(parts: SplitResult) -> MemoryStorage:
    """`memory:`, or `memory:?time_to_live=SECONDS`."""
    if parts.netloc or parts.path:
        raise StorageError("the URL of sessions in memory is just memory:")
    given = options(parts, {"time_to_live"})
    try:
        return MemoryStorage(float(given["time_to_live"]) if given else None)
    except ValueError:
        raise StorageError("time_to_live must be a positive number of seconds") from None

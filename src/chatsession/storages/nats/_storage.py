"""Sessions in a NATS JetStream key-value bucket, for bots that run on NATS anyway.

Each session is one key of the bucket (`nats kv get sessions 424242` shows it). Characters that NATS does not allow in
keys are escaped (`=20` is a blank). Lock, queue and expiry are in a header of the same message, because JetStream
changes one message at a time: one compare-and-swap on its revision checks the lease and the version, writes the session
and unlocks it. Locking, renewing and unlocking therefore write the value again.

Durability: that of the stream. When a commit that was awaited returns, JetStream has written it to a majority of the
bucket's `replicas`. A single server syncs its disk every two minutes (`sync_interval` in its configuration); a power
failure may cost that much. A repeated commit is recognised if only its acknowledgement was lost. Reads without a lock
may come from a replica that is slightly behind; reads under a lock are exact.

Servers from 2.11 on remove expired sessions; on older ones, this storage sweeps the bucket. A deleted session leaves a
marker of about a hundred bytes until it would have expired, or for ever if it had no expiry: a newer server that is
killed may restore what a marker has replaced once the marker has expired. A session must fit into one message
(`max_payload`, 1 MiB by default).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import ClassVar

from nats.aio.client import Client

from chatsession.errors import SessionError, StorageError
from chatsession.storages._shared.failures import without_failures
from chatsession.storages._shared.seconds import check_seconds
from chatsession.storages._shared.sweeper import end, sweep_now_and_then
from chatsession.storages._shared.waiters import WaiterRegistry
from chatsession.storages.base import (
    Change,
    Lease,
    Locked,
    LockRequest,
    Outcome,
    Page,
    Record,
    Storage,
)
from chatsession.storages.inspection import Fact, HeldLock
from chatsession.storages.nats import _inspection, _locks, _operations
from chatsession.storages.nats._bucket import Bucket
from chatsession.storages.nats._calls import Calls
from chatsession.storages.nats._connection import Connector
from chatsession.storages.nats._entries import Entries
from chatsession.storages.nats._eras import ERA_NAME
from chatsession.storages.nats._listing import Listing
from chatsession.storages.nats._names import key_of
from chatsession.storages.nats._records import HEARTBEAT, Stored

_ROOM_FOR_HEADERS = 8 * 1024
"""Bytes of the largest payload that sessions leave free, so that the largest session can still be locked."""
_PAGE = 200


class NatsStorage(Storage):
    """Keeps sessions in a key-value bucket of JetStream.

    Args:
        servers: a URL (`nats://user:password@host:4222`), several for a cluster, or a connected `nats` client of your
            own, which stays open.
        bucket: the bucket's name. A missing bucket is created; an existing one must keep a history of 1.
        replicas: the number of servers that keep a bucket that is created here.
        credentials: the path of a credentials file (`.creds`).
        retry_for: seconds in which a request that is not answered is repeated.
        sweep_interval: seconds between sweeps of expired sessions, on servers before 2.11.
        single_process: no other process or program uses these sessions (see `Storage.single_process`).

    Examples:
        >>> from chatsession import SessionManager
        >>> from chatsession.storages.nats import NatsStorage
        >>> sessions = SessionManager(dict[str, int], storage=NatsStorage("nats://127.0.0.1:4222"))
    """

    batch_size: ClassVar[int] = 100
    batches_in_flight: ClassVar[int] = 4

    def __init__(
        self,
        servers: str | Sequence[str] | Client,
        *,
        bucket: str = "sessions",
        replicas: int = 1,
        credentials: str | None = None,
        retry_for: float = 10.0,
        sweep_interval: float = 600.0,
        single_process: bool = False,
    ) -> None:
        if not bucket or not bucket.replace("-", "").replace("_", "").isalnum() or not bucket.isascii():
            raise StorageError("a bucket's name has letters, digits, - and _ only")
        check_seconds(retry_for=retry_for, sweep_interval=sweep_interval)
        self._connector = Connector(servers, credentials, retry_for)
        self._bucket_name = bucket
        self._replicas = replicas
        self._retry_for = retry_for
        self._sweep_interval = sweep_interval
        self.single_process = single_process
        self._entries: Entries | None = None
        self._may_connect = False
        self._connecting = asyncio.Lock()
        self._listing = Listing(self._names)
        self._waiters = WaiterRegistry()
        self._sweeper: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<NatsStorage: {self._connector}, bucket {self._bucket_name!r}>"

    async def open(self) -> None:
        if self.is_open:
            return
        self._may_connect = True
        entries = await self._ready()
        if not entries.bucket.expires_by_itself and self._sweeper is None:
            self._sweeper = asyncio.create_task(sweep_now_and_then(self, self._sweep_interval))
        await super().open()

    async def close(self) -> None:
        await super().close()
        self._may_connect = False
        sweeper, self._sweeper = self._sweeper, None
        await end(sweeper)
        await self._disconnect()

    def now(self) -> float:
        return super().now() if self._entries is None else self._entries.bucket.now()

    def forget(self, *, inherited: bool) -> None:
        entries, sweeper = self._entries, self._sweeper
        self._entries = self._sweeper = None
        self._may_connect = False
        self._connecting = asyncio.Lock()
        self._listing = Listing(self._names)
        self._waiters = WaiterRegistry()
        self._connector.discard(entries, sweeper, inherited=inherited)
        super().forget(inherited=inherited)

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | SessionError | None]:
        entries = await self._ready()
        return await entries.transact(dict.fromkeys(keys, _operations.record_of))

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        entries = await self._ready()
        largest = entries.calls.client.max_payload - _ROOM_FOR_HEADERS
        outcomes = await entries.transact(
            {change.key: functools.partial(_operations.commit, change, largest) for change in changes},
            [change.lease for change in changes],
        )
        for change in changes:
            if change.lease is not None and change.unlock:
                entries.forget(change.key)
        return outcomes

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | SessionError | None]:
        entries = await self._ready()
        results = await entries.transact(
            {request.key: functools.partial(_locks.lock, request, entries.calls.inbox) for request in requests}
        )
        now = entries.bucket.now()
        return [self._waiters.answer(*each, now) for each in zip(requests, results, strict=True)]

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        entries = await self._ready()
        results = await entries.transact(
            {lease.key: functools.partial(_locks.renew, lease, seconds) for lease in leases}, leases
        )
        return [result is True for result in without_failures(results)]

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        entries = await self._ready()
        for request in requests:
            self._waiters.stop_waiting(request.waiter)
        results = await entries.transact(
            {request.key: functools.partial(_locks.abandon, request.waiter) for request in requests}
        )
        without_failures(results)

    async def wait_unlocked(self, request: LockRequest, attempt: int) -> None:
        await self._waiters.wait(request.waiter, HEARTBEAT)

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        names, following = await self._listing.after(cursor, limit)
        keys = [key for name in names if name != ERA_NAME and (key := self._key(name)).startswith(prefix)]
        entries: list[tuple[str, Record]] = []
        for key, found in zip(keys, await self.read_many(keys), strict=True):
            if isinstance(found, SessionError):
                raise found
            if found is not None:
                entries.append((key, found))
        return Page(entries, following)

    async def sweep(self, limit: int = 1000) -> int:
        bucket = (await self._ready()).bucket
        freed, cursor = 0, None
        while not bucket.expires_by_itself and freed < limit:
            names, cursor = await self._listing.after(cursor, _PAGE)
            for name, stored in zip(names, await bucket.get_all(names), strict=True):
                if isinstance(stored, Stored) and freed < limit and _is_outlived(stored, bucket.now()):
                    await bucket.purge(name, below=stored.revision + 1)
                    freed += not stored.entry.missing
            if cursor is None:
                break
        return freed

    async def list_locks(self, prefix: str, limit: int) -> Sequence[HeldLock]:
        bucket = (await self._ready()).bucket
        return await _inspection.locks(bucket, self._listing, prefix, limit)

    async def facts(self) -> Sequence[Fact]:
        entries = await self._ready()
        return await _inspection.facts(entries.calls.client, entries.bucket)

    def _key(self, name: str) -> str:
        key = key_of(name)
        if key is None:
            raise StorageError(f"{name!r} in the bucket {self._bucket_name!r} is not the entry of any session key")
        return key

    async def _names(self, offset: int) -> tuple[list[str], int]:
        return await (await self._ready()).bucket.names(offset)

    async def _ready(self) -> Entries:
        """The bucket's entries, connected (again) if need be."""
        if self._entries is not None and not self._entries.calls.client.is_closed:
            return self._entries
        if not self._may_connect:
            raise StorageError("the storage is not open; use it in `async with`, or call open()")
        async with self._connecting:
            if self._entries is None or self._entries.calls.client.is_closed:
                await self._disconnect()
                self._entries = await self._connect()
            return self._entries

    async def _connect(self) -> Entries:
        calls = Calls(self._retry_for, self._waiters.wake)
        client = await self._connector.connect(calls)
        bucket = Bucket(calls, self._bucket_name, self._replicas)
        try:
            await calls.start(client)
            await bucket.open()
        except BaseException:
            await calls.stop()
            await self._connector.disconnect(client)
            raise
        return Entries(calls, bucket, self._retry_for)

    async def _disconnect(self) -> None:
        entries, self._entries = self._entries, None
        if entries is not None:
            await entries.close()
            await entries.calls.stop()
            await self._connector.disconnect(entries.calls.client)


def _is_outlived(stored: Stored, now: float) -> bool:
    ends = stored.entry.outlived_at(now)
    return stored.revision > 0 and ends is not None and ends <= now

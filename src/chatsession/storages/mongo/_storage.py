"""The storage. A batch takes a few statements, and a read if they do not tell what became of each item."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from chatsession.errors import SessionError, StorageError
from chatsession.storages._shared.clock import ServerClock
from chatsession.storages._shared.seconds import check_seconds
from chatsession.storages.base import Change, Lease, Locked, LockRequest, Outcome, Page, Record, Storage
from chatsession.storages.inspection import Fact, HeldLock
from chatsession.storages.mongo import _inspection, _scanning, _schema
from chatsession.storages.mongo._batches import each
from chatsession.storages.mongo._calls import Calls, measure, run
from chatsession.storages.mongo._commits import commit_all
from chatsession.storages.mongo._connection import Client, Connection
from chatsession.storages.mongo._errors import as_storage_error
from chatsession.storages.mongo._locks import Locks
from chatsession.storages.mongo._records import LayoutName, layout_named
from chatsession.storages.mongo._wakeups import WAKE_EVENTS, Wakeups

_LONGEST_RETRY = 1e6
"""Seconds; the server takes no limit of more than 24 days."""


class MongoStorage(Storage):
    """Keeps each session in a document of one collection, as BSON that can be queried.

    `db.sessions.find({"value.cart.total": {$gt: 100}})` finds sessions by their content. Values that are not JSON
    (encrypted or compressed sessions) are stored as bytes. A document without `value` is not a session: it holds a lock
    or the last token of a key, and MongoDB deletes it an hour after its last use.

    Durability: a commit that was awaited is on the disks of a majority of the servers (`w: majority, journal: true`)
    and survives a failover, unless `w` or `journal` in the URL, or the write concern of the client, says otherwise.
    Reads see what a majority has, and after a failover the first one waits for a majority to confirm the new primary.
    Reads without a lock (`get`, enumerations, and optimistic updates, whose commit is then refused) may still give what
    was stored before if they come to a primary that was frozen or cut off and has not noticed that another one was
    elected, or through `mongos`. Updates with a lock never do.

    Locking and reading take one round trip for up to four sessions at the same time, and two for more, which share
    statements. Committing and unlocking take one. Updates that wait for another process are woken by a change stream
    on a replica set, and poll ten times a second on any other server. Sessions expire by the server's clock; their
    documents are deleted an hour later.

    A program that writes to a session's document must change or remove its `version`; otherwise an update that is
    running may overwrite what it wrote.

    Args:
        url: `mongodb://user:password@host:port/database` or `mongodb+srv://…`, with options of pymongo after a `?`.
        client: a `pymongo.AsyncMongoClient` instead of a URL. The caller closes it, and uses it in one event loop and
            one process only.
        database: the name of the database; `None`: that of the URL.
        collection: the collection of the sessions.
        layout: the form of the documents: `"chatsession"` as above, or `"grammy"` (`{key, value}`), which a bot written
            with grammY can use as well. The sessions in such documents cannot expire.
        create: create missing indexes; `False`: only check them.
        retry_for: seconds in which a call is tried again before it fails.
        time_to_live: seconds after the last access at which a session is forgotten, unless its manager has a `ttl`
            of its own; `None`: never.
        single_process: no other process uses these sessions (see `Storage.single_process`).

    Raises:
        StorageError: neither or both of `url` and `client` are given, or the name of the database is missing.

    Examples:
        >>> from chatsession.storages.mongo import MongoStorage
        >>> MongoStorage("mongodb://bot:secret@db.example/bot")
        <MongoStorage: bot.sessions in MongoDB at db.example>
    """

    batch_size: ClassVar[int] = 200
    batches_in_flight: ClassVar[int] = 2  # so that server and client do not wait for each other

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Client | None = None,
        database: str | None = None,
        collection: str = "sessions",
        layout: LayoutName = "chatsession",
        create: bool = True,
        retry_for: float = 10.0,
        time_to_live: float | None = None,
        single_process: bool = False,
    ) -> None:
        source = client if url is None else url
        if source is None or (url is not None and client is not None):
            raise StorageError("sessions in MongoDB need a URL or a client, and not both")
        check_seconds(retry_for=retry_for, **({} if time_to_live is None else {"time_to_live": time_to_live}))
        self.time_to_live = time_to_live
        self.single_process = single_process
        self._layout = layout_named(layout)
        # grammY leaves other fields of a document as they are: an expiry would outlive the value that it belongs to.
        self.expiring = layout == "chatsession"
        if time_to_live is not None and not self.expiring:
            raise StorageError("sessions in grammY's documents cannot expire; leave out time_to_live or the layout")
        self._connection = Connection(source, database, collection)
        self._create = create
        self._retry_for = min(retry_for, _LONGEST_RETRY)
        self._clock = ServerClock()
        self._opening = asyncio.Lock()
        self._locks: Locks | None = None

    def __repr__(self) -> str:
        return f"<MongoStorage: {self._connection.place} in {self._connection}>"

    def now(self) -> float:
        return self._clock.now()

    async def open(self) -> None:
        """Connect, and create or check the indexes.

        Raises:
            StorageUnavailableError: the server cannot be reached, or no server of the replica set is the primary.
            StorageError: wrong credentials, a missing right or index, a server that is too old, or a collection that
                holds something else.
        """
        async with self._opening:
            if self.is_open:
                return
            try:
                await run(self._open, str(self._connection), self._retry_for)
            except (RuntimeError, ValueError) as error:  # of pymongo: another event loop's client; a port that is none
                raise as_storage_error(error, str(self._connection)) from None
            except BaseException:
                await self._connection.close()
                raise
            self.is_open = True

    async def close(self) -> None:
        """Stop listening, and close the client that was made here."""
        async with self._opening:
            self.is_open = False
            if self._locks is not None:
                await self._locks.stop()
            self._locks = None
            await self._connection.close()

    def forget(self, *, inherited: bool) -> None:
        self._connection.forget(inherited=inherited)
        self._locks = None
        self._clock = ServerClock()
        self._opening = asyncio.Lock()
        super().forget(inherited=inherited)

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | SessionError | None]:
        return await each(keys, partial(_scanning.read, self._opened.calls))

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        return await each(changes, partial(commit_all, self._opened.calls))

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | SessionError | None]:
        return await each(requests, self._opened.lock)

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        results = await each(leases, partial(self._opened.renew, seconds))
        return [result is True for result in results]

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        await each(requests, self._opened.abandon)

    async def wait_unlocked(self, request: LockRequest, attempt: int) -> None:
        await self._opened.wait(request, attempt)

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        return await _scanning.page(self._opened.calls, prefix, cursor, limit)

    async def scan_keys(self, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
        return await _scanning.keys(self._opened.calls, prefix, cursor, limit)

    async def list_locks(self, prefix: str, limit: int) -> Sequence[HeldLock]:
        return await _inspection.locks(self._opened.calls, prefix, limit)

    async def count_expired(self) -> int:
        return await _inspection.expired(self._opened.calls)

    async def list_unreadable(self, limit: int) -> Sequence[Fact]:
        return await _scanning.unreadable(self._opened.calls, limit)

    async def facts(self) -> Sequence[Fact]:
        return await _inspection.facts(self._opened.calls)

    @property
    def _opened(self) -> Locks:
        if self._locks is None:
            raise StorageError("the storage is closed; open it first")
        return self._locks

    async def _open(self, _again: bool) -> None:
        collection = self._connection.collection()
        await measure(self._clock, self._connection.client)
        hello = await _schema.check_server(self._connection.client)
        is_replicated = "setName" in hello or hello.get("msg") == "isdbgrid"
        if not is_replicated and collection.write_concern.document["w"] not in (1, "majority"):
            raise StorageError("w asks for several servers, but this server has no replica set; leave w out of the URL")
        await _schema.prepare(collection, self._layout, create=self._create)
        wakeups = Wakeups(lambda: collection.watch(WAKE_EVENTS)) if is_replicated else None
        calls = Calls(collection, self._layout, self._clock, str(self._connection), self._retry_for)
        self._locks = Locks(calls, wakeups)

"""The storage: each batch is one bulk write, and a read where that does not tell everything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, TypeVar

from pymongo import ReturnDocument, UpdateOne
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from chatsession.errors import SessionError, SessionKeyError, StorageError
from chatsession.storages._shared.clock import ServerClock
from chatsession.storages._shared.seconds import check_seconds
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
from chatsession.storages.mongo import _inspection, _scanning, _schema, _statements
from chatsession.storages.mongo._calls import Call, Result, run
from chatsession.storages.mongo._clock import measure
from chatsession.storages.mongo._commits import Commit, holds
from chatsession.storages.mongo._connection import Client, Collection, Connection
from chatsession.storages.mongo._errors import DUPLICATE_KEY, as_storage_error, is_unacknowledged, passes
from chatsession.storages.mongo._layouts import Name, layout_named
from chatsession.storages.mongo._records import Document, check_key, is_over, is_whole, record_of
from chatsession.storages.mongo._wakeups import WAKE_EVENTS, Wakeups

Item = TypeVar("Item")

_LARGEST_CALL = 8_000_000
"""Bytes of keys and values in one call; a command of MongoDB has 16 MiB, a message 48 MB."""
_LONGEST_SLEEP = 1.0
"""Seconds; a waiter that has not repeated its request for three seconds counts as dead."""
_STORED_FIELDS = {"value": True, "version": True, "expires_at": True, "now": "$$NOW"}
_LOCKED_FIELDS = {**_STORED_FIELDS, "lock": True, "token": True}


class MongoStorage(Storage):
    """Keeps each session in a document of one collection, its value as BSON where it is JSON.

    `db.sessions.find({"value.cart.total": {$gt: 100}})` finds sessions by what is in them. What is no JSON (encrypted
    or compressed sessions) is stored as bytes. A document without `value` is no session: it holds a lock or the last
    token of a key, and MongoDB deletes it an hour
    after it was used.

    Durability: a commit that was awaited is on the disks of a majority of the servers (`w: majority, journal: true`)
    and survives a failover. Whoever writes `w` or `journal` into the URL, or gives a client with a write concern,
    chooses otherwise. Reads see what a majority has.

    Locking and reading take one round trip for one session, committing and unlocking another; several sessions at the
    same time share a bulk write and a read. Waiting updates of other processes are woken by a change stream on a
    replica set, and poll ten times a second on a server that is none. Sessions expire by the server's clock; their
    documents are deleted an hour later.

    A program that writes into a session's document must change or remove its `version`, or its change may be
    overwritten by an update that is running.

    Args:
        url: `mongodb://user:password@host:port/database` or `mongodb+srv://…`, with options of pymongo behind a `?`.
        client: instead of a URL, a `pymongo.AsyncMongoClient`, which the caller closes. It must be made in the event
            loop and the process that use it.
        database: the name of the database; `None`: that of the URL.
        collection: the collection of the sessions.
        layout: the form of the documents: `"chatsession"` as above; `"grammy"` as grammY's MongoDB storage writes them
            (`{key, value}`), so that a bot written with grammY can use the same collection. Such sessions have no
            time to live here.
        create: create the indexes that are missing; `False`: only check them.
        retry_for: seconds for which a call is tried in all before it fails.
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
        layout: Name = "chatsession",
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
        self._retry_for = retry_for
        self._clock = ServerClock()
        self._opening = asyncio.Lock()
        self._collection: Collection | None = None
        self._waiting: set[str] = set()
        """Requests of this process that are in a queue."""
        self._wakeups: Wakeups | None = None
        """`None`: waiters poll."""

    def __repr__(self) -> str:
        return f"<MongoStorage: {self._connection.place} in {self._connection}>"

    def now(self) -> float:
        return self._clock.now()

    async def open(self) -> None:
        """Connect, and create or check the indexes.

        Raises:
            StorageUnavailableError: the server cannot be reached, or no server of the replica set is the primary.
            StorageError: wrong credentials, a missing right or index, a server that is too old, or a collection that
                is not one of sessions.
        """
        async with self._opening:
            if self.is_open:
                return
            try:
                await self._run(self._open)
            except RuntimeError as error:  # pymongo's, if the client was used in another event loop
                raise as_storage_error(error, str(self._connection)) from None
            except BaseException:
                await self._connection.close()
                raise
            self.is_open = True

    async def close(self) -> None:
        """Stop listening, and close the client that was made here."""
        async with self._opening:
            self.is_open = False
            if self._wakeups is not None:
                await self._wakeups.stop()
            self._collection = self._wakeups = None
            self._waiting.clear()
            await self._connection.close()

    def forget(self, *, inherited: bool) -> None:
        self._connection.forget(inherited=inherited)
        self._collection = self._wakeups = None
        self._clock = ServerClock()
        self._waiting.clear()
        self._opening = asyncio.Lock()
        super().forget(inherited=inherited)

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | SessionError | None]:
        return await self._each(keys, lambda key: key, self._read)

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        return await self._each(changes, _key_of, self._commit)

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | SessionError | None]:
        return await self._each(requests, _key_of, self._lock)

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        results = await self._each(leases, _key_of, partial(self._renew, seconds))
        return [result is True for result in results]

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        await self._each(requests, _key_of, self._abandon)

    async def wait_unlocked(self, request: LockRequest, attempt: int) -> None:
        pause = min(0.004 * 1.5 ** min(attempt, 20), 0.1)
        if self._wakeups is not None and self._wakeups.listening:
            await self._wakeups.wait(request.waiter, _LONGEST_SLEEP)
        else:
            await asyncio.sleep(pause * random.uniform(0.7, 1.0))

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        return await self._page(prefix, cursor, limit, values=True)

    async def scan_keys(self, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
        page = await self._page(prefix, cursor, limit, values=False)
        return [key for key, _ in page.entries], page.cursor

    async def list_locks(self, prefix: str, limit: int) -> Sequence[HeldLock]:
        return await self._run(lambda _: _inspection.locks(self._sessions, self._layout, prefix, limit, self.now()))

    async def count_expired(self) -> int:
        return await self._run(lambda _: _inspection.expired(self._sessions, self.now()))

    async def list_unreadable(self, limit: int) -> Sequence[Fact]:
        return await self._run(lambda _: _scanning.unreadable(self._sessions, self._layout, limit))

    async def facts(self) -> Sequence[Fact]:
        return await self._run(lambda _: _inspection.facts(self._sessions))

    @property
    def _sessions(self) -> Collection:
        if self._collection is None:
            raise StorageError("the storage is closed; open it first")
        return self._collection

    async def _open(self, _again: bool) -> None:
        collection = self._connection.collection()
        await measure(self._clock, self._connection.client)
        hello = await _schema.check_server(self._connection.client)
        await _schema.prepare(collection, self._layout, create=self._create)
        self._collection = collection
        has_change_streams = "setName" in hello or hello.get("msg") == "isdbgrid"
        self._wakeups = Wakeups(self._watch) if has_change_streams else None

    async def _watch(self) -> AsyncChangeStream[dict[str, Any]]:
        return await self._sessions.watch(WAKE_EVENTS)

    async def _run(self, call: Call[Result]) -> Result:
        if self._collection is not None and self._clock.is_due():
            await run(lambda _: measure(self._clock, self._connection.client), str(self._connection), self._retry_for)
        return await run(call, str(self._connection), self._retry_for)

    async def _page(self, prefix: str, cursor: str | None, limit: int, *, values: bool) -> Page:
        return await self._run(
            lambda _: _scanning.page(self._sessions, self._layout, prefix, cursor, limit, values=values)
        )

    async def _each(
        self,
        items: Sequence[Item],
        key_of: Callable[[Item], str],
        call: Callable[[Sequence[Item]], Any],
    ) -> list[Any]:
        """Make a call for the items whose keys can be stored; the others get their error."""
        results: list[Any] = [None] * len(items)
        good: list[tuple[int, int]] = []
        for place, item in enumerate(items):
            try:
                good.append((place, check_key(key_of(item)) + len(getattr(item, "value", b""))))
            except SessionKeyError as error:
                results[place] = error
        for places in _portions(good):
            found = await call([items[place] for place in places])
            for place, result in zip(places, found, strict=True):
                results[place] = result
        return results

    async def _read(self, keys: Sequence[str]) -> Sequence[Record | StorageError | None]:
        documents = await self._run(lambda _: self._find(keys, _STORED_FIELDS))
        return [_record_in(key, documents.get(key)) for key in keys]

    async def _lock(self, requests: Sequence[LockRequest]) -> Sequence[Locked | StorageError | None]:
        documents = await self._run(partial(self._try_locks, requests))
        return [self._granted(request, documents.get(request.key)) for request in requests]

    async def _try_locks(self, requests: Sequence[LockRequest], again: bool) -> Mapping[str, Document]:
        """Lock what is free, then queue for the rest; returns the documents as they are then."""
        now = self.now()
        waiting = [request for request in requests if again or request.waiter in self._waiting]
        fresh = [request for request in requests if not (again or request.waiter in self._waiting)]
        if len(requests) == 1:
            return await self._try_lock(requests[0], now, is_fresh=not waiting)
        if fresh:
            _, refused = await self._write(
                [
                    UpdateOne(
                        {self._layout.key: each.key, **_statements.FREE}, _statements.lock(each, now), upsert=True
                    )
                    for each in fresh
                ]
            )
            waiting += [fresh[place] for place in refused]
        if waiting:
            await self._write(
                [
                    UpdateOne({self._layout.key: each.key}, _statements.lock_or_queue(each, now), upsert=True)
                    for each in waiting
                ]
            )
        return await self._find([request.key for request in requests], _LOCKED_FIELDS)

    async def _try_lock(self, request: LockRequest, now: float, *, is_fresh: bool) -> Mapping[str, Document]:
        if is_fresh:
            with suppress(DuplicateKeyError):  # it is not free
                return await self._change(request.key, _statements.FREE, _statements.lock(request, now))
        return await self._change(request.key, {}, _statements.lock_or_queue(request, now))

    async def _change(self, key: str, condition: Mapping[str, Any], update: Any) -> Mapping[str, Document]:
        query = {self._layout.key: key, **condition}
        found = await self._sessions.find_one_and_update(
            query, update, _LOCKED_FIELDS, upsert=True, return_document=ReturnDocument.AFTER
        )
        if is_whole(found):
            return {key: found}
        return await self._find([key], _LOCKED_FIELDS)

    def _granted(self, request: LockRequest, document: Document | None) -> Locked | StorageError | None:
        waiter = request.waiter
        lock = None if document is None else document.get("lock")
        if document is None or lock is None or lock["waiter"] != waiter or lock["token"] != document["token"]:
            self._waiting.add(waiter)
            if self._wakeups is not None and document is not None:
                self._wakeups.must_wait(waiter, document["_id"])
            return None
        self._stop_waiting(waiter)
        record = _record_in(request.key, document)
        if isinstance(record, StorageError):
            return record
        return Locked(Lease(request.key, int(lock["token"])), record)

    def _stop_waiting(self, waiter: str) -> None:
        self._waiting.discard(waiter)
        if self._wakeups is not None:
            self._wakeups.stop_waiting(waiter)

    async def _renew(self, seconds: float, leases: Sequence[Lease]) -> Sequence[bool]:
        async def call(_again: bool) -> Sequence[bool]:
            now = self.now()
            made, _ = await self._write([self._update_of(lease, _statements.renew(seconds, now)) for lease in leases])
            if made == len(leases):
                return [True] * len(leases)
            found = await self._find([lease.key for lease in leases], {"lock": True, "now": "$$NOW"})
            return [holds(lease.token, found.get(lease.key)) for lease in leases]

        return await self._run(call)

    async def _abandon(self, requests: Sequence[LockRequest]) -> Sequence[None]:
        key = self._layout.key
        granted = [UpdateOne({key: each.key, "lock.waiter": each.waiter}, _statements.UNLOCK) for each in requests]
        waiting = [
            UpdateOne({key: each.key, "queue.waiter": each.waiter}, _statements.leave_queue(each.waiter))
            for each in requests
        ]
        await self._run(lambda _: self._write([*granted, *waiting]))
        for request in requests:
            self._stop_waiting(request.waiter)
        return [None] * len(requests)

    async def _commit(self, changes: Sequence[Change]) -> Sequence[Outcome | None]:
        commits = [Commit(change, self._layout) for change in changes]
        await self._run(partial(self._commit_all, commits))
        return [commit.outcome for commit in commits]

    async def _commit_all(self, commits: Sequence[Commit], again: bool) -> None:
        if again:
            await self._look_after(commits)
        while pending := [commit for commit in commits if commit.outcome is None]:
            if len(pending) == 1:
                await self._commit_one(pending[0])
            else:
                await self._commit_together(pending)
        late = [commit.change.lease for commit in commits if commit.leaves_lock and commit.change.lease]
        if late:
            await self._write([self._update_of(lease, _statements.UNLOCK) for lease in late])

    async def _commit_one(self, commit: Commit) -> None:
        now = self.now()
        try:
            document = await self._sessions.find_one_and_update(
                commit.filter(now),
                commit.operators(now),
                commit.fields,
                upsert=commit.may_insert,
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError:  # its condition does not hold
            document = None
        except OperationFailure as error:
            if passes(error):
                raise
            commit.fail(error.code, str(self._connection))
            return
        if is_whole(document):
            commit.made(document)
        else:
            await self._look_after([commit])

    async def _commit_together(self, commits: Sequence[Commit]) -> None:
        now = self.now()
        made, refused = await self._write([commit.update(now) for commit in commits])
        for place, code in refused.items():
            if code != DUPLICATE_KEY:
                commits[place].fail(code, str(self._connection))
        if made == len(commits):
            for commit in commits:
                if commit.result_is_known:
                    commit.made()
        await self._look_after(commits)

    async def _look_after(self, commits: Sequence[Commit]) -> None:
        """Find out what became of those commits of which it is not known."""
        unknown = [commit for commit in commits if commit.outcome is None]
        if unknown:
            found = await self._find([commit.change.key for commit in unknown], unknown[0].fields)
            for commit in unknown:
                commit.look(found.get(commit.change.key), self.now())

    async def _find(self, keys: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Document]:
        name = self._layout.key
        query = {name: keys[0]} if len(keys) == 1 else {name: {"$in": list(keys)}}
        found = self._sessions.find(query, {name: True, **fields}, batch_size=len(keys) + 1)
        return {document[name]: document async for document in found}

    async def _write(self, updates: Sequence[UpdateOne]) -> tuple[int, dict[int, object]]:
        """Make updates in any order; returns how many found their document, and the errors of others by their place."""
        try:
            done = await self._sessions.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            if is_unacknowledged(error):
                raise
            return 0, {each["index"]: each.get("code") for each in error.details["writeErrors"]}
        return done.matched_count + done.upserted_count, {}

    def _update_of(self, lease: Lease, operators: _statements.Expression) -> UpdateOne:
        return UpdateOne({self._layout.key: lease.key, **_statements.held(lease)}, operators)


def _record_in(key: str, document: Document | None) -> Record | StorageError | None:
    if document is None or "value" not in document or is_over(document):
        return None
    try:
        return record_of(key, document)
    except StorageError as error:
        return error


def _key_of(item: Change | LockRequest | Lease) -> str:
    return item.key


def _portions(sizes: Sequence[tuple[int, int]]) -> Iterable[Sequence[int]]:
    """Split places into portions of about `_LARGEST_CALL` bytes, given pairs of place and size; nearly always one."""
    portion: list[int] = []
    total = 0
    for place, size in sizes:
        if portion and total + size > _LARGEST_CALL:
            yield portion
            portion, total = [], 0
        portion.append(place)
        total += size
    if portion:
        yield portion

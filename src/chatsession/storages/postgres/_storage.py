"""The storage: each batch is one call of one SQL function."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias, cast, get_args

from chatsession.errors import SessionError, StorageError
from chatsession.storages.base import KEEP, Change, Lease, Locked, LockRequest, Outcome, Page, Record, Storage
from chatsession.storages.inspection import Fact, HeldLock
from chatsession.storages.postgres import _inspection, _scanning
from chatsession.storages.postgres._database import Database
from chatsession.storages.postgres._driver import Connection, Pool
from chatsession.storages.postgres._grammy import GrammySchema, without_bytes
from chatsession.storages.postgres._held_rows import HeldRows, of_key
from chatsession.storages.postgres._locks import Locks
from chatsession.storages.postgres._records import TEXTS, Batch, commit_call, outcome, parts, record, texts
from chatsession.storages.postgres._schema import Schema
from chatsession.storages.postgres._sweeping import Sweeper

Layout: TypeAlias = Literal["chatsession", "grammy"]

_LARGEST_CALL = 50_000_000
"""Bytes; a message to PostgreSQL has room for 1 GiB, and the server copies what is in it a few times."""


class PostgresStorage(Storage):
    """Keeps each session in a row of one table, as `jsonb` where it is JSON.

    Durability: a commit that was awaited is as durable as PostgreSQL makes this user's transactions: flushed to its
    disk, unless `synchronous_commit` is off. Locks are not flushed; a crash of the server ends them, and a former
    holder still commits if no other process has taken the lock since.

    `jsonb` keeps the meaning of JSON, not its text: spaces are dropped, fields are sorted, the last of two fields
    with one name is kept, and numbers are exact decimals (`1e2` comes back as `100`, `-0.0` as `0.0`).

    A row that another transaction has locked (`SELECT … FOR UPDATE`) fails the update of that session with
    `StorageUnavailableError` after about two seconds; other sessions are not affected.

    Args:
        url: `postgresql://user:password@host:port/database`; several hosts, and options of libpq behind a `?`, as
            asyncpg takes them.
        pool: instead of a URL, an `asyncpg.Pool`, which the caller closes. It must be made in the event loop and the
            process that use it, and behind PgBouncer with `statement_cache_size=0`. It resets a connection after
            each call, which costs one more round trip, unless it was made with a `reset` of its own. While updates
            wait for other processes, one of its connections is used for wake-ups, if it has three or more.
        schema: the PostgreSQL schema for the tables.
        layout: the form of the table: `"chatsession"` as above; `"grammy"` exactly as that of grammY's PostgreSQL
            storage, so that a bot written with grammY can use the same table (see `docs/grammy.md`).
        table: the table of the sessions; the names of the other tables and functions begin with this name. `None`:
            `chat_sessions`, or `sessions` in the layout of grammY.
        create: create and migrate the tables when the storage opens; `False`: only check them (see `schema_sql`).
        connections: the most connections that are opened, besides one for wake-ups.
        retry_for: seconds for which a call is retried before it fails.
        sweep_interval: about how many seconds pass between two sweeps of expired sessions.
        pooler: whether connections go through a pooler such as PgBouncer, which shares them among transactions. Then
            nothing is kept in a connection from one transaction to the next: no prepared statements (one more round
            trip a call) and no LISTEN (an update that waits for another process asks every 0.1 s). `None`: detected
            when the storage opens.
        time_to_live: seconds after the last access at which a session is forgotten, unless its manager has a `ttl`
            of its own; `None`: never.
        single_process: no other process uses these sessions (see `Storage.single_process`).

    Raises:
        StorageError: a name cannot be used, or neither or both of `url` and `pool` are given.
        ValueError: a number is not positive.

    Examples:
        >>> PostgresStorage("postgresql://bot:secret@db.example/bot")
        <PostgresStorage: "public"."chat_sessions" at db.example/bot>
    """

    # With several small batches this process and the server work at the same time; with one large batch, in turns.
    batch_size: ClassVar[int] = 100
    batches_in_flight: ClassVar[int] = 2
    verbatim: ClassVar[bool] = False

    def __init__(
        self,
        url: str | None = None,
        *,
        pool: Pool | None = None,
        layout: Layout = "chatsession",
        schema: str = "public",
        table: str | None = None,
        create: bool = True,
        connections: int = 4,
        retry_for: float = 10.0,
        sweep_interval: float = 60.0,
        pooler: bool | None = None,
        time_to_live: float | None = None,
        single_process: bool = False,
    ) -> None:
        source = pool if url is None else re.sub(r"^postgres(ql\+asyncpg)?://", "postgresql://", url)
        if source is None or (url and pool):
            raise StorageError("sessions in PostgreSQL need a URL or a pool, and not both")
        if min(connections, retry_for, sweep_interval, 1 if time_to_live is None else time_to_live) <= 0:
            raise ValueError("connections, retry_for, sweep_interval and time_to_live must be positive")
        self.time_to_live = time_to_live
        self.single_process = single_process
        if layout not in get_args(Layout):
            raise StorageError(f"the layout of a table is one of {', '.join(get_args(Layout))}")
        if layout == "grammy":
            self._schema: Schema = GrammySchema(schema, "sessions" if table is None else table)
        else:
            self._schema = Schema(schema, "chat_sessions" if table is None else table)
        self._database = Database(source, self._schema, connections, retry_for, pooler)
        self._sweeper = Sweeper(self._database, sweep_interval)
        self._held_rows = HeldRows(self._find_held)
        self._locks = Locks(self._database, self._schema, self._held_rows)
        self._create = create
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<PostgresStorage: {self._schema} {self._database}>"

    async def open(self) -> None:
        """Connect, and create, migrate or check the tables.

        Raises:
            StorageUnavailableError: the server could not be reached within `retry_for` seconds.
            StorageError: the server cannot be used: wrong credentials, a missing right, no such database, too old, a
                read-only replica, or a foreign table of the same name.
        """
        async with self._opening:
            if self.is_open:
                return
            await self._database.open(create=self._create)
            self._sweeper.start()
            self.is_open = True

    async def close(self) -> None:
        """Stop sweeping, and close the connections that were opened here."""
        async with self._opening:
            self.is_open = False
            await self._sweeper.stop()
            await self._database.close()
            self._locks.clear()

    def forget(self, *, inherited: bool) -> None:
        self._database.forget(inherited=inherited)
        self._sweeper.forget()
        self._opening = asyncio.Lock()
        self._locks.clear()
        super().forget(inherited=inherited)

    def now(self) -> float:
        return self._database.clock.now()

    def lane_of(self, key: str) -> str:
        # A row that is held keeps its own key waiting, and not those that would travel with it.
        return "held rows" if key in self._held_rows else ""

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | SessionError | None]:
        batch = Batch(keys)
        results: dict[str, Record | SessionError | None] = dict(batch.refused)
        if batch.keys:
            key_of = batch.by_stored_key()
            rows = await self._database.fetch(f"SELECT * FROM {{read}}($1::{TEXTS})", texts(batch.keys))
            for key, value, version, expires_at in rows:
                results[key_of[cast("str", key)]] = record(value, version, expires_at)
        return [results.get(key) for key in keys]

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        changes, refused = without_bytes(changes) if self._schema.text_only else (changes, None)
        outcomes = [each for part in parts(changes, _LARGEST_CALL) for each in await self._commit(part)]
        if not refused:
            return outcomes
        return [refused.get(change.key, outcome) for change, outcome in zip(changes, outcomes, strict=True)]

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | SessionError | None]:
        return await self._locks.lock(requests)

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        return await self._locks.renew(leases, seconds)

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        await self._locks.abandon(requests)

    async def wait_unlocked(self, request: LockRequest, attempt: int) -> None:
        await self._locks.wait(request, attempt)

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        return await _scanning.page(self._database, self._schema, prefix, cursor, limit, values=True)

    async def scan_keys(self, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
        page = await _scanning.page(self._database, self._schema, prefix, cursor, limit, values=False)
        return [key for key, _ in page.entries], page.cursor

    async def sweep(self, limit: int = 1000) -> int:
        return (await self._sweeper.sweep(limit))[0]

    async def list_locks(self, prefix: str, limit: int) -> Sequence[HeldLock]:
        return await _inspection.locks(self._database, self._schema, prefix, limit)

    async def count_expired(self) -> int:
        return await _inspection.expired(self._database, self._schema)

    async def facts(self) -> Sequence[Fact]:
        return await _inspection.facts(self._database, self._schema)

    async def _commit(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        return await self._held_rows.isolated(self._commit_together, changes, of_key, sessions=True)

    async def _commit_together(self, changes: Sequence[Change]) -> Mapping[str, Outcome]:
        batch = Batch(changes)
        results: dict[str, Outcome] = dict(batch.refused)
        if not batch.keys:
            return results
        keeps_all = all(change.action is KEEP for change in batch.items)
        name = None if keeps_all else uuid.uuid4()
        expression, arguments = commit_call(batch)
        sql = self._schema.sql(f"SELECT {expression}")
        earlier = self._schema.query("outcomes")

        async def call(connection: Connection, again: bool) -> object:
            known = await connection.fetchval(earlier, name) if again and name else None
            return known or await connection.fetchval(sql, name, *arguments)

        codes = cast("list[int]", await self._database.run(call))
        for change, code in zip(batch.items, codes, strict=True):
            results[change.key] = outcome(code)
        return results

    async def _find_held(self, keys: Collection[str], sessions: bool) -> set[str]:
        """Which of the keys have a row that another transaction has locked."""
        key_of = Batch(list(keys)).by_stored_key()
        rows = await self._database.fetch(self._schema.query("held_rows"), list(key_of), sessions)
        return {key_of[cast("str", key)] for (key,) in rows}

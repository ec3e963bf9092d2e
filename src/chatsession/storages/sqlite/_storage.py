"""The storage that keeps sessions in one SQLite file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chatsession.errors import StorageError
from chatsession.storages._shared.seconds import check_seconds
from chatsession.storages.base import Change, Lease, Locked, LockRequest, Outcome, Page, Record, Storage
from chatsession.storages.inspection import Fact, HeldLock
from chatsession.storages.sqlite import _holders, _inspection, _locks, _records
from chatsession.storages.sqlite._connection import Connection, Synchronous
from chatsession.storages.sqlite._worker import Worker

_LOOK_INTERVAL = 1.0
"""Seconds between two checks for other processes that use the file."""


class SQLiteStorage(Storage):
    """One SQLite file in WAL mode, shared safely by any number of processes of one machine.

    A thread owns the connection; commits that wait for it share one transaction. Values that are text are stored as
    text in the table `sessions`: `sqlite3 bot.db "SELECT key, value FROM sessions"`.

    Durability: a commit survives any end of the process, including `kill -9`. With `synchronous="normal"`, a power
    failure or a crash of the operating system may undo the last commits, but never half of one; with `"full"`, a commit
    returns when it is on the disk (https://sqlite.org/pragma.html#pragma_synchronous).

    The lock of a dead process is free immediately on Linux, elsewhere when its lease ends.

    Args:
        path: the file; created if it is missing. Its folder must exist, on a local disk.
        synchronous: `"normal"`, `"full"` or `"extra"`.
        retry_for: seconds to wait for other processes that write, until `StorageUnavailableError`.
        sweep_interval: seconds between sweeps of expired sessions, which run in small steps when the thread is idle.
        create: whether a file, or the tables in it, may be created. If not, a file without sessions is refused and left
            as it is, and a file that is not writable can still be read.
        clock: returns Unix time in seconds.

    Examples:
        >>> import asyncio, os, tempfile
        >>> from chatsession import SessionManager
        >>> from chatsession.storages.sqlite import SQLiteStorage
        >>> async def main(path: str) -> int | None:
        ...     async with SessionManager(int, storage=SQLiteStorage(path, synchronous="full")) as visits:
        ...         await visits.update("424242", lambda count: count + 1)
        ...         return await visits.get("424242")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asyncio.run(main(os.path.join(folder, "bot.db")))
        1
    """

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Synchronous = "normal",
        retry_for: float = 10.0,
        sweep_interval: float = 60.0,
        create: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if str(path) in ("", ":memory:"):
            raise StorageError("SQLiteStorage needs a file; sessions in memory are MemoryStorage, or memory:")
        if synchronous not in ("normal", "full", "extra"):
            raise StorageError(f"synchronous must be normal, full or extra, not {synchronous!r}")
        if "\0" in str(path):
            raise StorageError("the path of an SQLite file cannot have a NUL in it")
        check_seconds(retry_for=retry_for, sweep_interval=sweep_interval)
        self._path = Path(path)
        self._file = self._path.absolute()  # the program may change its folder later
        self._synchronous: Synchronous = synchronous
        self._retry_for = retry_for
        self._sweep_interval = sweep_interval
        self._create = create
        self._clock = clock
        self._connection = self._new_connection()
        self._worker: Worker | None = None
        self._look_due = 0.0

    def __repr__(self) -> str:
        return f"<SQLiteStorage {str(self._file)!r}>"

    async def open(self) -> None:
        if self._worker is None:
            self._connection = self._new_connection()
            self._look_due = 0.0
            self._worker = Worker(
                str(self._path),
                self._connection,
                retry_for=self._retry_for,
                idle=lambda connection: self._tidy(connection, 500) == 500,
                idle_interval=self._sweep_interval,
            )
        worker = self._worker
        try:
            await worker.start()
        except Exception:
            if self._worker is worker:
                self._worker = None
            raise
        if self._worker is worker:  # and not closed meanwhile
            self.is_open = True

    async def close(self) -> None:
        worker, self._worker = self._worker, None
        self.is_open = False
        if worker is not None:
            await worker.stop()

    def forget(self, *, inherited: bool) -> None:
        worker, self._worker = self._worker, None
        self.single_process = False
        if worker is not None and not inherited:
            worker.end()
        super().forget(inherited=inherited)

    def now(self) -> float:
        return self._clock()

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | None]:
        return await self._at_work.submit(
            lambda connection: _records.read(connection, keys, self._clock()), writes=False
        )

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        holder = self._connection.holder

        def commit(connection: sqlite3.Connection) -> list[Outcome]:
            if time.monotonic() >= self._look_due:
                self._look_at_processes(connection, holder, self._clock())
            return _records.commit(connection, changes, self._clock())

        return await self._at_work.submit(commit, writes=True)

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | None]:
        holder = self._connection.holder

        def lock(connection: sqlite3.Connection) -> list[Locked | None]:
            if time.monotonic() >= self._look_due:
                self._look_at_processes(connection, holder, self._clock())
            return _locks.lock(connection, requests, holder.id, self._clock())

        return await self._at_work.submit(lock, writes=True)

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        return await self._at_work.submit(
            lambda connection: _locks.renew(connection, leases, seconds, self._clock()), writes=True
        )

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        await self._at_work.submit(lambda connection: _locks.abandon(connection, requests), writes=True)

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        return await self._at_work.submit(
            lambda connection: _records.scan(connection, prefix, cursor, limit, self._clock()), writes=False
        )

    async def scan_keys(self, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
        return await self._at_work.submit(
            lambda connection: _records.scan_keys(connection, prefix, cursor, limit, self._clock()), writes=False
        )

    async def sweep(self, limit: int = 1000) -> int:
        return await self._at_work.submit(lambda connection: self._tidy(connection, limit), writes=True)

    async def list_locks(self, prefix: str, limit: int) -> Sequence[HeldLock]:
        return await self._at_work.submit(
            lambda connection: _inspection.locks(connection, prefix, limit, self._clock()), writes=False
        )

    async def count_expired(self) -> int:
        return await self._at_work.submit(
            lambda connection: _inspection.expired(connection, self._clock()), writes=False
        )

    async def facts(self) -> Sequence[Fact]:
        return await self._at_work.submit(
            lambda connection: _inspection.facts(connection, self._file, self._clock()), writes=False
        )

    @property
    def _at_work(self) -> Worker:
        if self._worker is not None and self._worker.inherited:
            raise StorageError(
                f"the SQLite file {self._path} was opened before this process was forked; open it in each process"
            )
        if self._worker is None or not self.is_open:
            raise StorageError(
                f"the SQLite file {self._path} is closed; open() it first, or use its manager by async with"
            )
        return self._worker

    def _new_connection(self) -> Connection:
        return Connection(
            self._file,
            synchronous=self._synchronous,
            retry_for=self._retry_for,
            create=self._create,
            clock=self._clock,
        )

    def _look_at_processes(self, connection: sqlite3.Connection, holder: _holders.Holder, now: float) -> None:
        self._look_due = time.monotonic() + _LOOK_INTERVAL
        holder.note_alive(connection, now)
        self.single_process = _holders.is_single_process(connection, holder.id, now)

    def _tidy(self, connection: sqlite3.Connection, limit: int) -> int:
        now = self._clock()
        self._look_at_processes(connection, self._connection.holder, now)
        _locks.tidy(connection, now)
        return _records.sweep(connection, now, limit)

"""The storage that keeps sessions in one SQLite file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from chatsession.errors import StorageError
from chatsession.storages._shared.seconds import check_seconds
from chatsession.storages.base import Change, Lease, Locked, LockRequest, Outcome, Page, Record, Storage
from chatsession.storages.inspection import Fact, HeldLock
from chatsession.storages.sqlite import _inspection, _locks, _records
from chatsession.storages.sqlite._connection import Connection, Synchronous
from chatsession.storages.sqlite._holders import Holder, is_single_process
from chatsession.storages.sqlite._worker import Worker


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

    def __repr__(self) -> str:
        return f"<SQLiteStorage {str(self._file)!r}>"

    async def open(self) -> None:
        if self._worker is None:
            self._connection = self._new_connection()
            self._worker = Worker(
                str(self._path),
                self._connection,
                clock=self._clock,
                retry_for=self._retry_for,
                look=partial(self._look_at_processes, self._connection.holder),
                idle=lambda connection, now: self._tidy(connection, 500, now) == 500,
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
        return await self._at_work.submit(_records.read, keys, writes=False)

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        return await self._at_work.submit(_records.commit, changes, writes=True)

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | None]:
        return await self._at_work.submit(_locks.lock, requests, self._connection.holder, writes=True)

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        return await self._at_work.submit(_locks.renew, leases, seconds, writes=True)

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        await self._at_work.submit(_locks.abandon, requests, writes=True)

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        return await self._at_work.submit(_records.scan, prefix, cursor, limit, writes=False)

    async def scan_keys(self, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
        return await self._at_work.submit(_records.scan_keys, prefix, cursor, limit, writes=False)

    async def sweep(self, limit: int = 1000) -> int:
        return await self._at_work.submit(self._look_and_tidy, self._connection.holder, limit, writes=True)

    async def list_locks(self, prefix: str, limit: int) -> Sequence[HeldLock]:
        return await self._at_work.submit(_inspection.locks, prefix, limit, writes=False)

    async def count_expired(self) -> int:
        return await self._at_work.submit(_inspection.expired, writes=False)

    async def facts(self) -> Sequence[Fact]:
        return await self._at_work.submit(_inspection.facts, self._file, writes=False)

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

    def _look_at_processes(self, holder: Holder, connection: sqlite3.Connection, now: float) -> None:
        holder.note_alive(connection, now)
        self.single_process = is_single_process(connection, holder.id, now)

    def _look_and_tidy(self, connection: sqlite3.Connection, holder: Holder, limit: int, now: float) -> int:
        self._look_at_processes(holder, connection, now)
        return self._tidy(connection, limit, now)

    def _tidy(self, connection: sqlite3.Connection, limit: int, now: float) -> int:
        _locks.tidy(connection, now)
        return _records.sweep(connection, now, limit)

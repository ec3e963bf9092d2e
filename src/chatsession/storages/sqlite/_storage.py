"""The storage that keeps sessions in one SQLite file."""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from chatsession.errors import StorageError
from chatsession.storages.base import Change, Lease, Locked, LockRequest, Outcome, Page, Record, Storage
from chatsession.storages.inspection import Fact, HeldLock
from chatsession.storages.sqlite import _inspection, _locks, _records
from chatsession.storages.sqlite._connection import Worker
from chatsession.storages.sqlite._holders import my_identity
from chatsession.storages.sqlite._schema import is_prepared, prepare

_log = logging.getLogger("chatsession")

Synchronous: TypeAlias = Literal["normal", "full", "extra"]


class SQLiteStorage(Storage):
    """One SQLite file in WAL mode, shared safely by any number of processes of one machine.

    A thread owns the connection; commits that wait for it share one transaction. Values that are text lie in the
    table `sessions` as text: `sqlite3 bot.db "SELECT key, value FROM sessions"`.

    Durability: what was committed survives the end of the process in any way, `kill -9` included. With
    `synchronous="normal"` a power failure or a crash of the operating system may undo the last commits, never half
    of one; with `"full"` each commit is on the disk before it counts (https://sqlite.org/pragma.html#pragma_synchronous).

    The lock of a process that died is free at once where Linux can tell, else when its lease ends.

    Args:
        path: of the file; made when missing. Its folder must be there, on a local disk.
        synchronous: `"normal"`, `"full"` or `"extra"`.
        retry_for: seconds to wait for other processes that write, until `StorageUnavailableError`.
        sweep_interval: seconds between sweeps of expired sessions, in small steps, when nothing else is to be done.
        clock: gives the time as Unix seconds.

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
        clock: Callable[[], float] = time.time,
    ) -> None:
        if str(path) in ("", ":memory:"):
            raise StorageError("SQLiteStorage needs a file; sessions in memory are MemoryStorage, or memory:")
        if synchronous not in ("normal", "full", "extra"):
            raise StorageError(f"synchronous must be normal, full or extra, not {synchronous!r}")
        if "\0" in str(path):
            raise StorageError("the path of an SQLite file cannot have a NUL in it")
        if not (retry_for > 0 and sweep_interval > 0):  # which is so of nan, too
            raise StorageError("retry_for and sweep_interval are in seconds and must be positive")
        self._path = Path(path)
        self._synchronous = synchronous
        self._retry_for = retry_for
        self._sweep_interval = sweep_interval
        self._clock = clock
        self._connection: Worker | None = None
        self._holder = 0

    def __repr__(self) -> str:
        return f"<SQLiteStorage {str(self._path)!r}>"

    async def open(self) -> None:
        if self._connection is None:
            self._connection = Worker(
                str(self._path),
                self._connect,
                retry_for=self._retry_for,
                idle=lambda connection: self._tidy(connection, 500) == 500,
                idle_interval=self._sweep_interval,
            )
        worker = self._connection
        try:
            await worker.start()
        except Exception:
            if self._connection is worker:
                self._connection = None
            raise
        if self._connection is worker:  # and not closed meanwhile
            self.is_open = True

    async def close(self) -> None:
        worker, self._connection = self._connection, None
        self.is_open = False
        if worker is None:
            return
        try:
            await worker.start()
        except Exception:  # it never was open, as `open` has told
            return
        try:
            await worker.submit(lambda connection: _locks.unregister(connection, self._holder), writes=True)
        except StorageError as error:  # as on a full disk; others see that it is gone when this process is
            _log.warning("an SQLite file was closed, but could not be told so: %s", error)
        finally:
            await worker.stop()

    def now(self) -> float:
        return self._clock()

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | None]:
        return await self._at_work.submit(
            lambda connection: _records.read(connection, keys, self._clock()), writes=False
        )

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        def commit(connection: sqlite3.Connection) -> list[Outcome]:
            self.single_process = _locks.single_process(connection, self._holder)
            return _records.commit(connection, changes, self._clock())

        return await self._at_work.submit(commit, writes=True)

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | None]:
        def lock(connection: sqlite3.Connection) -> list[Locked | None]:
            self.single_process = _locks.single_process(connection, self._holder)
            return _locks.lock(connection, requests, self._holder, self._clock())

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
        return await self._at_work.submit(lambda connection: _inspection.facts(connection, self._path), writes=False)

    @property
    def _at_work(self) -> Worker:
        if self._connection is None or not self.is_open:
            raise StorageError(
                f"the SQLite file {self._path} is closed; open() it first, or use its manager by async with"
            )
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._retry_for, isolation_level=None, check_same_thread=False)
        try:
            connection.text_factory = bytes
            is_prepared(connection, str(self._path))  # refuses what is not ours before anything is changed
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != b"wal":
                raise StorageError(
                    f"the SQLite file {self._path} cannot be put into WAL mode; is its disk a local one?"
                )
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("BEGIN IMMEDIATE")
            prepare(connection, str(self._path))
            self._holder = _locks.register(connection, my_identity(secrets.token_hex(8)))
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _tidy(self, connection: sqlite3.Connection, limit: int) -> int:
        now = self._clock()
        _locks.tidy(connection, now)
        return _records.sweep(connection, now, limit)

"""The thread that owns the database connection, and gathers what waits into one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from chatsession.errors import StorageError
from chatsession.storages.sqlite._errors import explained

_LONGEST_PAUSE = 3600.0
"""Seconds; for ever is too long for the system's clocks."""

Result = TypeVar("Result")


class _Job(NamedTuple):
    do: Callable[[sqlite3.Connection], Any]
    writes: bool
    done: asyncio.Future[Any]


class Worker:
    """Runs functions on one connection, in the order of their submission.

    Everything that waits when the thread becomes free shares one transaction, and so one trip to the disk. Should a
    function fail, all are rolled back and run again, each alone; they must bear that.

    Args:
        name: of the file, for messages.
        connect: opens the connection, in the thread.
        retry_for: seconds to wait for other processes that write.
        idle: runs between jobs, at most every `idle_interval` seconds; returns whether it wants to go on at once.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        *,
        retry_for: float,
        idle: Callable[[sqlite3.Connection], bool],
        idle_interval: float,
    ) -> None:
        self._name = name
        self._connect = connect
        self._retry_for = retry_for
        self._idle = idle
        self._idle_interval = idle_interval
        self._idle_due = time.monotonic() + idle_interval * random.uniform(0.5, 1.0)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._opened: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Start the thread and open the connection; called again, wait for it. Raises `StorageError` if that fails."""
        if self._opened is None:
            self._opened = self._start()
        await asyncio.shield(self._opened)

    def _start(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._ended = loop.create_future()
        # A daemon: what was awaited is in the file, and a bot that forgot to close must still be able to exit.
        self._thread = threading.Thread(
            target=self._run, args=(loop, opened, self._ended), name=f"chatsession {self._name}", daemon=True
        )
        self._thread.start()
        return opened

    async def stop(self) -> None:
        """Run what was submitted, close the connection, end the thread."""
        if self._ended is not None:
            self._jobs.put(None)
            await asyncio.shield(self._ended)

    def submit(self, do: Callable[[sqlite3.Connection], Result], *, writes: bool) -> asyncio.Future[Result]:
        """Have a function run. It is given the connection, within a transaction if it writes."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(do, writes, done))
        return done

    def _run(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None], ended: asyncio.Future[None]) -> None:
        try:
            connection = self._connect()
        except Exception as error:
            _tell(loop, [(opened, explained(error, self._name)), (ended, None)])
            return
        _tell(loop, [(opened, None)])
        try:
            while (jobs := self._next(connection)) is not None:
                results = self._results(connection, jobs)
                _tell(loop, [(job.done, result) for job, result in zip(jobs, results, strict=True)])
        finally:
            connection.close()
            _tell(loop, [(ended, None)])

    def _next(self, connection: sqlite3.Connection) -> list[_Job] | None:
        """All jobs that wait, after waiting for the first; `None` at the end."""
        first = self._first(connection)
        if first is None:
            return None
        jobs = [first]
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return jobs
            if job is None:  # the end, but not before these are done
                self._jobs.put(None)
                return jobs
            jobs.append(job)

    def _first(self, connection: sqlite3.Connection) -> _Job | None:
        while True:
            try:
                return self._jobs.get(timeout=min(max(0.0, self._idle_due - time.monotonic()), _LONGEST_PAUSE))
            except Empty:
                self._tidy(connection)

    def _tidy(self, connection: sqlite3.Connection) -> None:
        try:
            more = self._in_transaction(connection, lambda: self._idle(connection))
        except (sqlite3.Error, StorageError):  # the next one may do better, and jobs tell of what is wrong
            more = False
        self._idle_due = time.monotonic() + (0.01 if more else self._idle_interval * random.uniform(0.8, 1.2))

    def _results(self, connection: sqlite3.Connection, jobs: list[_Job]) -> list[object]:
        def run_all() -> list[object]:
            return [job.do(connection) for job in jobs]

        try:
            if any(job.writes for job in jobs):
                return self._in_transaction(connection, run_all)
            return run_all()
        except Exception as error:
            if len(jobs) == 1:
                return [explained(error, self._name)]
            return [self._results(connection, [job])[0] for job in jobs]

    def _in_transaction(self, connection: sqlite3.Connection, do: Callable[[], Result]) -> Result:
        self._begin(connection)
        try:
            result = do()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _begin(self, connection: sqlite3.Connection) -> None:
        # SQLite's own waiting goes up to 100 ms between looks; writers here are done within a few.
        end = time.monotonic() + self._retry_for
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(random.uniform(0.0002, 0.002))
            else:
                return


def _tell(loop: asyncio.AbstractEventLoop, results: list[tuple[asyncio.Future[Any], object]]) -> None:
    def settle() -> None:
        for future, result in results:
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is left to be told
        loop.call_soon_threadsafe(settle)

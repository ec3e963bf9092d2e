"""The thread that owns the database connection and runs everything that is waiting in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, TypeVarTuple

from msgspec import Struct

from chatsession.errors import StorageUnavailableError
from chatsession.storages.sqlite._connection import Connection
from chatsession.storages.sqlite._errors import explained, is_busy

_log = logging.getLogger("chatsession")

_LONGEST_PAUSE = 3600.0
"""Seconds; the system cannot wait for ever."""

_LOOK_INTERVAL = 1.0
"""Seconds between two checks for other processes that use the file."""

Result = TypeVar("Result")
Args = TypeVarTuple("Args")

_random = random.SystemRandom()
"""Not the program's generator: if the program has seeded it, draws of this thread would change its sequence."""


class _Step(Struct):
    do: Callable[..., Any]
    """Called with the connection, the arguments, and the time at which the transaction began."""
    args: tuple[Any, ...] = ()


class _Job(_Step, kw_only=True):
    writes: bool
    deadline: float
    """When to stop waiting for other processes that write, by the monotonic clock."""
    done: asyncio.Future[Any]


_writes = attrgetter("writes")


class Worker:
    """Runs functions on one connection, in the order of their submission.

    Everything that is waiting when the thread becomes free shares one transaction, and so one trip to the disk. If a
    function fails, all are rolled back and run again one by one, so functions must be repeatable.

    Args:
        name: the file's name, for messages.
        connection: used only in the thread.
        clock: returns Unix time in seconds.
        retry_for: seconds to wait for other processes that write.
        look: looks for other processes that use the file; called in a transaction that writes, about once a second.
        idle: called between jobs, at most every `idle_interval` seconds; returns whether there is more to do.
    """

    def __init__(
        self,
        name: str,
        connection: Connection,
        *,
        clock: Callable[[], float],
        retry_for: float,
        look: Callable[[sqlite3.Connection, float], object],
        idle: Callable[[sqlite3.Connection, float], bool],
        idle_interval: float,
    ) -> None:
        self._name = name
        self._connection = connection
        self._clock = clock
        self._retry_for = retry_for
        self._look = look
        self._look_due = 0.0
        self._idle = idle
        self._idle_interval = idle_interval
        self._idle_due = time.monotonic() + idle_interval * _random.uniform(0.5, 1.0)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._using = threading.Lock()
        """Held while the thread uses the connection, and during a fork."""
        self._opened: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self.inherited = False
        """This process was forked from the one in which the thread runs."""

    async def start(self) -> None:
        """Start the thread and open the connection, or wait until it is open. Raises `StorageError` if that fails."""
        if self._opened is None:
            self._opened = self._start()
        await asyncio.shield(self._opened)

    def _start(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._ended = loop.create_future()
        # A daemon: what was awaited is in the file, and a bot that does not close the storage must be able to exit.
        threading.Thread(
            target=self._run, args=(opened, self._ended), name=f"chatsession {self._name}", daemon=True
        ).start()
        return opened

    def end(self) -> None:
        """Let the thread finish what was submitted, close the connection and end. Does not wait."""
        self._jobs.put(None)

    async def stop(self) -> None:
        """`end`, and wait until the thread has ended."""
        if self._ended is not None:
            self.end()
            await asyncio.shield(self._ended)

    def submit(
        self, do: Callable[[sqlite3.Connection, *Args, float], Result], *args: *Args, writes: bool
    ) -> asyncio.Future[Result]:
        """Call a function in the thread, in a transaction.

        Args:
            do: called with the connection, the arguments, and the time at which the transaction began.
            *args: for the function.
            writes: the function changes something.
        """
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(do, args, writes=writes, deadline=time.monotonic() + self._retry_for, done=done))
        return done

    def suspend(self) -> None:
        """Wait until the connection is not in use, and close it; `resume` must follow."""
        self._using.acquire()
        self._connection.suspend()

    def resume(self) -> None:
        """Let the thread continue. It opens a new connection."""
        self._using.release()

    def _run(self, opened: asyncio.Future[None], ended: asyncio.Future[None]) -> None:
        with _forking:  # a fork that has begun does not know of this connection
            _workers.add(self)
        try:
            with self._using:
                self._connection.open()
        except Exception as error:
            _workers.discard(self)
            _tell(opened, explained(error, self._name))
            _tell(ended, None)
            return
        _tell(opened, None)
        try:
            while (jobs := self._next()) is not None:
                with self._using:
                    results = self._results(jobs)
                for job, result in zip(jobs, results, strict=True):
                    _tell(job.done, result)
        finally:
            self._close()
            _workers.discard(self)
            _tell(ended, None)

    def _close(self) -> None:
        try:
            with self._using:
                self._connection.close()
        except Exception as error:  # for example on a full disk
            _log.warning("an SQLite file was closed, but its locks could not be released: %s", error)

    def _next(self) -> list[_Job] | None:
        """All waiting jobs, after waiting for the first one; `None` at the end."""
        jobs: list[_Job] = []
        while not jobs or not self._jobs.empty():
            try:
                job = self._jobs.get(timeout=min(max(0.0, self._idle_due - time.monotonic()), _LONGEST_PAUSE))
            except Empty:
                with self._using:
                    self._tidy()
                continue
            if job is None:
                if not jobs:
                    return None
                self._jobs.put(None)  # the end, once these jobs are done
                break
            jobs.append(job)
        return jobs

    def _tidy(self) -> None:
        try:
            (more,) = self._in_one_transaction([_Step(self._idle)], writes=True, deadline=0.0)
        except Exception:  # the next one may succeed, and jobs report what is wrong
            more = False
        self._idle_due = time.monotonic() + (0.01 if more else self._idle_interval * _random.uniform(0.8, 1.2))

    def _results(self, jobs: list[_Job]) -> list[object]:
        try:
            results = self._in_one_transaction(
                jobs,
                writes=any(map(_writes, jobs)),
                deadline=jobs[0].deadline,  # the earliest: what is submitted first waits first, all wait equally long
            )
            self._connection.check_path()  # otherwise the commit may be in a file that was removed
            return results
        except Exception as error:
            failure = explained(error, self._name)
            if len(jobs) == 1:
                return [failure]
            if not isinstance(failure, StorageUnavailableError):
                return [self._results([job])[0] for job in jobs]
        # The file was locked until the first deadline. Each job waits only until its own, however many there are,
        # and those that only read need not wait.
        now = time.monotonic()
        reading = [job for job in jobs if not job.writes]
        writing = [job for job in jobs if job.writes and job.deadline > now]
        answers: dict[int, object] = {}
        for part in (reading, writing):
            if 0 < len(part) < len(jobs):
                answers.update(zip(map(id, part), self._results(part), strict=True))
        return [answers.get(id(job), failure) for job in jobs]

    def _in_one_transaction(self, steps: Sequence[_Step], *, writes: bool, deadline: float) -> list[Any]:
        """Run all steps, again and again while other processes keep the file locked; returns what they return."""
        connection = self._connection.use()
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
                now = self._clock()
                if writes and time.monotonic() >= self._look_due:
                    self._look_due = time.monotonic() + _LOOK_INTERVAL
                    self._look(connection, now)
                results = [step.do(connection, *step.args, now) for step in steps]
                connection.execute("COMMIT")
                return results
            except BaseException as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if not is_busy(error) or time.monotonic() > deadline:
                    raise
            # SQLite itself would wait up to 100 ms between attempts; writers here finish within a few.
            time.sleep(_random.uniform(0.0002, 0.002))


def _tell(future: asyncio.Future[Any], result: object) -> None:
    """Set the result of a future, in its event loop."""
    with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is left to be told
        future.get_loop().call_soon_threadsafe(_settle, future, result)


def _settle(future: asyncio.Future[Any], result: object) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


# SQLite must not be carried into a forked child: the child would share the parent's locks by name only, and either
# could remove the log that the other writes. So no connection is open while a process forks.
_workers: set[Worker] = set()
_suspended: list[Worker] = []
_forking = threading.Lock()


def _before_fork() -> None:
    _forking.acquire()
    for worker in list(_workers):
        worker.suspend()
        _suspended.append(worker)


def _after_fork_in_parent() -> None:
    while _suspended:
        _suspended.pop().resume()
    _forking.release()


def _after_fork_in_child() -> None:
    for worker in _workers:
        worker.inherited = True
    _workers.clear()
    _suspended.clear()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

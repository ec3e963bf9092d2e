"""The storage that keeps sessions in a folder."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar, get_args

from chatsession.errors import SessionError, StorageError
from chatsession.storages._shared.seconds import check_seconds
from chatsession.storages._shared.sweeper import drop, end, sweep_now_and_then
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
from chatsession.storages.file._errors import storage_error
from chatsession.storages.file._folder import SessionFolder
from chatsession.storages.file._grammy_names import GrammyNames
from chatsession.storages.file._names import Names
from chatsession.storages.file._threads import Threads
from chatsession.storages.inspection import Fact

Layout: TypeAlias = Literal["chatsession", "grammy"]

P = ParamSpec("P")
R = TypeVar("R")

LONGEST_WAIT = 1.0
"""Seconds after which a waiter tries again without being woken, which also shows that it is still alive."""


class FileStorage(Storage):
    """Keeps each session in a JSON file of its own.

    Args:
        folder: created if it is missing. The session of chat 424242 is `42/424242.json` in it, as with grammY's
            file storage; characters that are not safe in a file name are escaped as in URLs (`%2F`).
        layout: how files are named: `"chatsession"` as above; `"grammy"` exactly as by grammY's file storage, so that a
            bot written with it can use the same folder (see `docs/grammy.md`).
        fsync: whether a commit waits for the disk. Without it, a commit outlasts the process, but those of the last
            half minute may be lost, or leave empty files, after a power cut.
        retry_for: seconds to wait for a lock file that another process keeps, until `StorageUnavailableError`.
        sweep_interval: seconds between sweeps of expired sessions.
        create: whether the folder may be created. If not, a folder without sessions is refused unchanged, and one
            that is not writable can still be read.
        clock: returns Unix time in seconds; the same for all processes that share the folder.

    Examples:
        >>> from chatsession import SessionManager
        >>> from chatsession.storages.file import FileStorage
        >>> sessions = SessionManager(dict[str, int], storage=FileStorage("sessions"))
    """

    batches_in_flight: ClassVar[int] = 2

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        layout: Layout = "chatsession",
        fsync: bool = True,
        retry_for: float = 10.0,
        sweep_interval: float = 60.0,
        create: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if "\0" in os.fspath(folder):
            raise StorageError("the path of a folder cannot have a NUL in it")
        check_seconds(retry_for=retry_for, sweep_interval=sweep_interval)
        if layout not in get_args(Layout):
            raise StorageError(f"the layout of a folder is one of {', '.join(get_args(Layout))}")
        self._root = Path(folder).absolute()
        naming = GrammyNames() if layout == "grammy" else Names()
        self._open_folder = partial(
            SessionFolder, self._root, naming, clock, sync=fsync, create=create, retry_for=retry_for
        )
        self._sweep_interval = sweep_interval
        self._clock = clock
        self._process = 0
        self._opening = asyncio.Lock()
        self._folder: SessionFolder | None = None
        self._threads: Threads | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._waiters = WaiterRegistry()

    def __repr__(self) -> str:
        return f"<FileStorage: {self._root}>"

    def now(self) -> float:
        return self._clock()

    async def open(self) -> None:
        async with self._opening:
            if self._threads is not None:
                return
            self._threads = Threads(8, "chatsession-file")
            self._process = os.getpid()
            try:
                self._folder = folder = await self._threads.run(self._open_folder)
            except BaseException:
                await self.close()
                raise
            if folder.pipe is not None:
                folder.pipe.listen(self._waiters.wake)
                self._sweeper = asyncio.create_task(sweep_now_and_then(self, self._sweep_interval))
            await super().open()

    async def close(self) -> None:
        await super().close()
        threads, folder, sweeper = self._threads, self._folder, self._sweeper
        self._threads = self._folder = self._sweeper = None
        await end(sweeper)
        if threads is not None:
            await threads.close()
        if folder is not None and folder.pipe is not None:
            folder.pipe.close()

    def forget(self, *, inherited: bool) -> None:
        threads, folder = self._threads, self._folder
        drop(self._sweeper)
        self._threads = self._folder = self._sweeper = None
        self._opening = asyncio.Lock()
        self._waiters = WaiterRegistry()
        if threads is not None and not inherited:
            threads.end()
        if folder is not None and folder.pipe is not None:
            folder.pipe.forget(inherited=inherited)
        super().forget(inherited=inherited)

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | SessionError | None]:
        return await self._run(SessionFolder.read, keys)

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        return await self._run(SessionFolder.commit, changes)

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | SessionError | None]:
        results = await self._run(SessionFolder.lock, requests)
        now = self._clock()
        return [self._waiters.answer(*each, now) for each in zip(requests, results, strict=True)]

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        return await self._run(SessionFolder.renew, leases, seconds)

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        for request in requests:
            self._waiters.stop_waiting(request.waiter)
        await self._run(SessionFolder.abandon, requests)

    async def wait_unlocked(self, request: LockRequest, attempt: int) -> None:
        await self._waiters.wait(request.waiter, LONGEST_WAIT)

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        return await self._run(lambda folder: folder.listing.page(prefix, cursor, limit))

    async def scan_keys(self, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
        return await self._run(lambda folder: folder.listing.keys(prefix, cursor, limit))

    async def sweep(self, limit: int = 1000) -> int:
        freed = 0
        for part in await self._run(lambda folder: folder.files.folders()):
            if freed < limit:
                freed += await self._run(SessionFolder.sweep, part, limit - freed)
        return freed

    async def list_unreadable(self, limit: int) -> Sequence[Fact]:
        return await self._run(lambda folder: list(islice(folder.listing.unreadable(), limit)))

    async def _run(self, work: Callable[Concatenate[SessionFolder, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function that may wait for the disk, in a thread."""
        folder, threads = self._folder, self._threads
        if threads is not None and self._process != os.getpid():
            raise StorageError(
                f"the folder {self._root} was opened before this process was forked; open it in each process"
            )
        if folder is None or threads is None:
            raise StorageError("the storage is not open; use it in `async with`, or call open()")
        try:
            return await threads.run(lambda: work(folder, *args, **kwargs))
        except OSError as error:
            raise storage_error(error) from None

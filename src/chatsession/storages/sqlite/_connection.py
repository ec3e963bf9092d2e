"""This process's connection to the file. One thread uses it at a time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

from chatsession.errors import StorageError
from chatsession.storages.sqlite._errors import is_busy
from chatsession.storages.sqlite._holders import Holder
from chatsession.storages.sqlite._overwriting import FileContents
from chatsession.storages.sqlite._schema import is_prepared, prepare

Synchronous: TypeAlias = Literal["normal", "full", "extra"]
_Identity: TypeAlias = "tuple[int, int]"

_COARSEST_TICK = 2_100_000_000
"""Nanoseconds; the tick of FAT."""
_LONGEST_WAIT = 3600.0
"""Seconds; SQLite cannot wait for ever."""
_LONGEST_NAP = 0.1
"""Seconds that SQLite itself waits for a lock before the caller checks its deadline."""
_PAUSE = 0.005
"""Seconds between tries to open the file."""


class Connection:
    """Opens the file, and detects when the path leads to another one.

    Args:
        path: of the file.
        synchronous: as in `SQLiteStorage`.
        retry_for: seconds to wait for other processes while the file is opened.
        create: whether a file, or the tables in it, may be created; if not, a file that is not writable is only read.
        clock: returns Unix time in seconds.
    """

    def __init__(
        self, path: Path, *, synchronous: Synchronous, retry_for: float, create: bool, clock: Callable[[], float]
    ) -> None:
        self._path = path
        self._synchronous = synchronous
        self._retry_for = retry_for
        self._create = create
        self._clock = clock
        self.holder = Holder()
        self._raw: sqlite3.Connection | None = None
        self._read_only = False
        self._files: list[tuple[str, _Identity | None]] = []
        """The file, its log and the log's index, each with the identity of what was opened."""
        self._folder = ""
        self._seen: tuple[int, int, int] | None = None
        """The state of the folder when its files were last checked."""
        self._contents: FileContents | None = None

    def open(self) -> None:
        """Open the file, create missing tables, and register this process.

        Raises:
            StorageError: the file is missing, has other contents, or is not usable.
            sqlite3.Error: any other failure.
        """
        if not self._create and not self._path.exists():
            raise StorageError(f"there is no file {self._path}; nothing was created, see whether the path is right")
        if self._path.is_dir():
            raise StorageError(f"the SQLite file {self._path} cannot be opened: it is a folder; is the path right?")
        try:
            self._raw = self._open_for_writing()
        except sqlite3.OperationalError as error:
            if self._create or error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                raise
            self._raw = self._open_for_reading()
            self._read_only = True

    def use(self) -> sqlite3.Connection:
        """The connection; opened again if it was closed for a fork.

        Raises:
            StorageError: as `check_path`, or the file was overwritten. In that case nothing has been written yet.
        """
        if self._raw is None:
            self.check_path()
            self._raw = self._open_for_reading() if self._read_only else self._open_for_writing()
        elif self._contents is not None:
            self._contents.check(self._raw)  # otherwise the next checkpoint would mix both
        return self._raw

    def check_path(self) -> None:
        """Raise `StorageError` if the file, or its log, was removed or replaced: what is written would be lost."""
        if self._is_folder_unchanged() or self._are_files_unchanged():
            return
        self._seen = None
        raise StorageError(
            f"the SQLite file {self._path} (or its -wal or -shm file) was removed or replaced while it was in use; "
            "its last changes may be lost; see what became of it, and start this program anew"
        )

    def _is_folder_unchanged(self) -> bool:
        """Whether nothing was created, removed or renamed in the folder since the last check."""
        if not self._folder:
            return False
        try:
            status = os.stat(self._folder)
        except OSError:
            return False
        seen, self._seen = self._seen, (status.st_dev, status.st_ino, status.st_mtime_ns)
        # A change within the same tick of the file system's clock would go unnoticed.
        return self._seen == seen and abs(time.time_ns() - status.st_mtime_ns) > _COARSEST_TICK

    def _are_files_unchanged(self) -> bool:
        try:
            for path, identity in self._files:
                status = os.stat(path)
                if (status.st_dev, status.st_ino) != identity:
                    return False
        except OSError:
            return False
        return True

    def suspend(self) -> None:
        """Close the connection until its next use. Called before a fork: SQLite must not be carried into a child."""
        raw, self._raw = self._raw, None
        self._files = self._files[:1]  # the last connection that is closed removes the log
        self._folder = ""
        self._contents = None
        if raw is not None:
            with contextlib.suppress(sqlite3.Error):
                raw.close()

    def close(self) -> None:
        """Unregister this process and close the connection."""
        try:
            if not self._read_only:
                self.check_path()
                connection = self.use()
                connection.execute(f"PRAGMA busy_timeout = {round(min(self._retry_for, _LONGEST_WAIT) * 1000)}")
                connection.execute("BEGIN IMMEDIATE")
                self.holder.unregister(connection)
                connection.execute("COMMIT")
        finally:
            self.suspend()

    def _open_for_writing(self) -> sqlite3.Connection:
        """Wait while others create the file, too: SQLite gives up at once where two would wait for each other."""
        end = time.monotonic() + self._retry_for
        while True:
            try:
                return self._try_to_open_for_writing()
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > end:
                    raise
            time.sleep(_PAUSE)

    def _try_to_open_for_writing(self) -> sqlite3.Connection:
        connection = self._connect("rwc" if self._create else "rw")
        try:
            prepared = is_prepared(connection, str(self._path))
            if not prepared and not self._create:  # before anything is changed
                raise StorageError(
                    f"the file {self._path} holds no sessions; nothing was changed, see whether the path is right"
                )
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != b"wal":
                raise StorageError(
                    f"the SQLite file {self._path} cannot be put into WAL mode; is its disk a local one?"
                )
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("BEGIN IMMEDIATE")
            prepare(connection, str(self._path))
            if not self.holder.id:
                self.holder.register(connection, self._clock())
            connection.execute("COMMIT")
            if not prepared:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # the file itself can be recognized from now on
            connection.execute(f"PRAGMA busy_timeout = {round(min(self._retry_for, _LONGEST_NAP) * 1000)}")
        except BaseException:
            connection.close()
            raise
        file = os.path.realpath(self._path)
        self._files = [(path, _identity(path)) for path in (str(self._path), f"{file}-wal", f"{file}-shm")]
        # A link can be redirected without a change to the file's folder.
        self._folder = os.path.dirname(os.path.abspath(self._path)) if file == os.path.abspath(self._path) else ""
        self._seen = None
        self._contents = FileContents(file, lambda: self._connect("ro&immutable=1"), connection)
        return connection

    def _open_for_reading(self) -> sqlite3.Connection:
        log = self._path.with_name(self._path.name + "-wal")
        for mode in ("ro", "ro&immutable=1"):
            connection = self._connect(mode)
            try:
                if is_prepared(connection, str(self._path)):
                    return connection
                raise StorageError(f"the file {self._path} holds no sessions; see whether the path is right")
            except sqlite3.OperationalError:
                connection.close()
                if log.exists() and log.stat().st_size:
                    break
            except BaseException:
                connection.close()
                raise
        raise StorageError(
            f"the SQLite file {self._path} cannot be read where it is, because its folder cannot be written to and "
            "its -wal file holds changes; copy both files into another folder, and read them there"
        )

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._path.absolute()))}?mode={mode}",
            uri=True,
            timeout=min(self._retry_for, _LONGEST_WAIT),
            isolation_level=None,
            check_same_thread=False,
        )
        connection.text_factory = bytes
        return connection


def _identity(path: str) -> _Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino

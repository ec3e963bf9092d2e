"""Detects that the file was overwritten in place, as by `cp backup.db bot.db`.

Changes go to the log, and checkpoints copy them into the file, which is otherwise not written. So what the file holds
by itself was once the newest state, and is never older than what it held before.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

from chatsession.errors import StorageError

_STILL = 1.0
"""Seconds for which a file that looks overwritten must not change: it may be read while a page of it is written."""
_PAUSE = 0.02


class FileContents:
    """What the file holds without its log.

    Args:
        path: of the file.
        connect: opens a connection that does not read the log.
        connection: the connection in use. It reads the log, and knows what was written so far.
    """

    def __init__(self, path: str, connect: Callable[[], sqlite3.Connection], connection: sqlite3.Connection) -> None:
        self._path = path
        self._connect = connect
        self._written: tuple[int, int] | None = None
        self._next: int | None = None
        """The counter of the file when it was last read."""
        self.check(connection)

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise `StorageError` if another program has written to the file.

        Args:
            connection: the connection in use. It keeps pages that it has read.
        """
        try:
            status = os.stat(self._path)
            written = status.st_mtime_ns, status.st_size
            if written == self._written or not self._is_overwritten(connection, written):
                return
        except FileNotFoundError:  # `Connection.check_path` says so
            return
        raise StorageError(
            f"the SQLite file {self._path} was overwritten while it was in use, and what its -wal file holds "
            "does not fit it; its last changes may be lost; end all programs that use it, remove its -wal and "
            "-shm files, restore it once more, and start them anew"
        )

    def _is_overwritten(self, connection: sqlite3.Connection, written: tuple[int, int]) -> bool:
        end = time.monotonic() + _STILL
        while True:
            found = self._read_next()
            if found is None and (self._next is None or written[1]):
                return False  # a checkpoint is under way, or has failed on a full disk, and will be repeated
            (newest,) = connection.execute("SELECT next FROM chatsession").fetchone()
            if self._next is None or (found is not None and min(self._next, newest) <= found <= newest):
                self._written, self._next = written, found
                return False
            status = os.stat(self._path)
            if (status.st_mtime_ns, status.st_size) != written:
                return False  # it is still being written; the next call sees what becomes of it
            if time.monotonic() > end:
                return True
            time.sleep(_PAUSE)

    def _read_next(self) -> int | None:
        try:
            with closing(self._connect()) as connection:
                return connection.execute("SELECT next FROM chatsession").fetchone()[0]
        except (sqlite3.Error, TypeError):
            return None

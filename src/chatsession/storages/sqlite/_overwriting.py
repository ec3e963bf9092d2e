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

_STILL = 1.0
"""Seconds for which a file that looks overwritten must not change: it may be read while a page of it is written."""
_PAUSE = 0.02


class FileContents:
    """What the file holds without its log.

    Args:
        path: of the file.
        connect: opens a connection that does not read the log.
    """

    def __init__(self, path: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._connect = connect
        self._written: tuple[int, int] | None = None
        self._next: int | None = None
        """The counter of the file when it was last read."""

    def is_overwritten(self, connection: sqlite3.Connection) -> bool:
        """Whether another program has written to the file. Raises `OSError` if it is missing.

        Args:
            connection: the connection in use. It reads the log and keeps pages that it has read.
        """
        written = self._last_write()
        if written == self._written:
            return False
        end = time.monotonic() + _STILL
        while True:
            found = self._read_next()
            if found is None and (self._next is None or written[1]):
                return False  # a checkpoint is under way, or has failed on a full disk, and will be repeated
            (newest,) = connection.execute("SELECT next FROM chatsession").fetchone()
            if self._next is None or (found is not None and min(self._next, newest) <= found <= newest):
                self._written, self._next = written, found
                return False
            if self._last_write() != written:
                return False  # it is still being written; the next call sees what becomes of it
            if time.monotonic() > end:
                return True
            time.sleep(_PAUSE)

    def _last_write(self) -> tuple[int, int]:
        status = os.stat(self._path)
        return status.st_mtime_ns, status.st_size

    def _read_next(self) -> int | None:
        try:
            with closing(self._connect()) as connection:
                return connection.execute("SELECT next FROM chatsession").fetchone()[0]
        except (sqlite3.Error, TypeError):
            return None

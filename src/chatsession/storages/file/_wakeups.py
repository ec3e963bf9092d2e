"""Wakes waiters of other processes, through a named pipe that each open storage reads.

A pipe without a reader shows immediately that its process has ended.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from chatsession.storages._shared.waiters import WAKE_TOKEN_LENGTH, wake_token


class Pipe:
    """The named pipe of one open storage. Create it while no other process tidies up (see `_folder.SessionFolder`).

    Args:
        folder: where all pipes are.
    """

    def __init__(self, folder: Path) -> None:
        self.name = secrets.token_hex(8)
        self._path = folder / self.name
        os.mkfifo(self._path)
        # Opened for writing too, so that the pipe stays open without another writer.
        self._file = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, woken: Callable[[str], None]) -> None:
        """Call `woken` with the token of each waiter that is woken, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._file, self._read, woken)

    def close(self) -> None:
        """Stop listening, and remove the pipe."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._file)
        os.close(self._file)
        self._path.unlink(missing_ok=True)

    def forget(self, *, inherited: bool) -> None:
        """Drop the pipe of a closed event loop, or, in a forked child, the parent's, which the parent still uses."""
        os.close(self._file)  # a descriptor of this process: an inherited one would make the parent seem alive for ever
        if not inherited:
            self._path.unlink(missing_ok=True)

    def _read(self, woken: Callable[[str], None]) -> None:
        with suppress(BlockingIOError):
            tokens = os.read(self._file, WAKE_TOKEN_LENGTH * 256).decode("ascii", "replace")
            for start in range(0, len(tokens), WAKE_TOKEN_LENGTH):
                woken(tokens[start : start + WAKE_TOKEN_LENGTH])


def wake(pipe: Path, waiter: str) -> bool:
    """Wake a waiter. Returns whether its process still exists."""
    return _written(pipe, wake_token(waiter).encode())


def is_read(pipe: Path) -> bool:
    """Whether the process that created this pipe still exists."""
    return _written(pipe, b"")


def _written(pipe: Path, data: bytes) -> bool:
    try:
        file = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(file, data)
        finally:
            os.close(file)
    except BlockingIOError:  # its process exists but does not read; it may be stopped
        return True
    except OSError:
        return False
    return True

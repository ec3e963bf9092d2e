"""Waking those that wait in other processes, through a named pipe that each open storage reads.

A pipe that nobody reads tells at once that its process is gone, whatever became of it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

_SIZE = 16
_MOST_EARLY = 1000


class Pipe:
    """The named pipe of one open storage. Make it while no other process tidies up (see `_folder.SessionFolder`).

    Args:
        folder: where all pipes are.
    """

    def __init__(self, folder: Path) -> None:
        self.name = secrets.token_hex(8)
        self._path = folder / self.name
        os.mkfifo(self._path)
        # For reading and writing, so that it never ends for want of a writer.
        self._file = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, woken: Callable[[str], None]) -> None:
        """Call `woken` with the sign of each waiter that is woken, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._file, self._read, woken)

    def close(self) -> None:
        """Listen no more, and remove the pipe."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._file)
        os.close(self._file)
        self._path.unlink(missing_ok=True)

    def _read(self, woken: Callable[[str], None]) -> None:
        with suppress(BlockingIOError):
            signs = os.read(self._file, _SIZE * 256).decode("ascii", "replace")
            for start in range(0, len(signs), _SIZE):
                woken(signs[start : start + _SIZE])


def sign_of(waiter: str) -> str:
    """A waiter's name as it goes through a pipe: short, so that it is never torn, and all of one length."""
    return blake2b(waiter.encode("utf-8", "surrogatepass"), digest_size=_SIZE // 2).hexdigest()


def wake(pipe: Path, waiter: str) -> bool:
    """Wake a waiter; returns whether there is still somebody at the other end."""
    try:
        file = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(file, sign_of(waiter).encode())
    except BlockingIOError:  # its process reads no more, but lives: it may have been stopped
        pass
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def is_read(pipe: Path) -> bool:
    """Is the process that made this pipe still there?"""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class Bells:
    """Those in this process that wait to be woken."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._early: dict[str, None] = {}

    def ring(self, sign: str) -> None:
        """Wake the waiter with this sign, or whoever will wait under it next."""
        waiting = self._waiting.get(sign)
        if waiting is None:
            self._early[sign] = None
            if len(self._early) > _MOST_EARLY:
                del self._early[next(iter(self._early))]
        elif not waiting.done():
            waiting.set_result(None)

    async def wait(self, waiter: str, seconds: float) -> None:
        """Return when woken, or after some seconds."""
        sign = sign_of(waiter)
        if sign in self._early:
            del self._early[sign]
            return
        self._waiting[sign] = woken = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([woken], timeout=seconds)
        finally:
            del self._waiting[sign]

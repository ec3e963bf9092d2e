"""The holders of keys and their waiters, in a few small files, each of which is changed only under `flock`.

A lock file covers a share of all keys. It need not survive a power failure, because then all holders are gone. If it is
damaged, its contents are dropped: holders lose their leases, but no update is lost, because each commit checks that
its lease is still in the file.
"""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from chatsession.errors import StorageUnavailableError

_SHARDS = 64
LONGEST_SILENCE = 3.0
"""Seconds after which a waiter that no longer repeats its request is dropped from the queue."""


class QueuedWaiter(msgspec.Struct, array_like=True):
    """A request that waits for a key."""

    waiter: str
    pipe: str
    """Named pipe on which to wake it."""
    seen: float
    """When it last repeated its request."""


class Hold(msgspec.Struct, array_like=True):
    """The lock of one key, and its queue."""

    token: int
    until: float
    seconds: float
    queue: list[QueuedWaiter] = []
    waiter: str = ""
    """The request that was granted last."""


class Shard(msgspec.Struct, array_like=True):
    """The contents of a lock file."""

    last_token: int = 0
    holds: dict[str, Hold] = {}

    def take(self, name: str, waiter: QueuedWaiter, seconds: float, now: float) -> int | None:
        """Lock a key, and return the fencing token; or queue up and return `None`."""
        hold = self.holds.get(name)
        if hold is None:
            hold = self.holds[name] = Hold(0, 0.0, seconds)
        hold.queue = [each for each in hold.queue if each.waiter == waiter.waiter or _is_alive(each, now)]
        held = self._is_held(hold, now)
        first = not hold.queue or hold.queue[0].waiter == waiter.waiter
        if held or not first:
            _enqueue(hold.queue, waiter)
            return None
        hold.queue = hold.queue[1:]
        # Based on the clock too, so that tokens keep growing if the file is lost.
        self.last_token = hold.token = max(self.last_token + 1, int(now * 1_000_000))
        hold.until, hold.seconds, hold.waiter = now + seconds, seconds, waiter.waiter
        return hold.token

    def is_holder(self, name: str, token: int, now: float) -> bool:
        """Whether this token is the newest of the key and its lease has not expired."""
        hold = self.holds.get(name)
        return hold is not None and hold.token == token and self._is_held(hold, now)

    def renew(self, name: str, token: int, seconds: float, now: float) -> bool:
        """Extend a lease to `seconds` from now, if it is still held."""
        if not self.is_holder(name, token, now):
            return False
        hold = self.holds[name]
        hold.until, hold.seconds = now + seconds, seconds
        return True

    def release(self, name: str, wake: Callable[[QueuedWaiter], bool]) -> None:
        """Unlock a key and wake the first in its queue; waiters that can no longer be woken are dropped."""
        hold = self.holds[name]
        hold.until = 0.0
        self._wake_first(name, hold, wake)

    def abandon(self, name: str, waiter: str, now: float, wake: Callable[[QueuedWaiter], bool]) -> None:
        """Drop a waiter, or release the lock that it was granted; if it was its turn, it is the next one's."""
        hold = self.holds.get(name)
        if hold is None:
            return
        if hold.waiter == waiter and self._is_held(hold, now):
            self.release(name, wake)
            return
        if all(queued.waiter != waiter for queued in hold.queue):
            return
        was_first = hold.queue[0].waiter == waiter
        hold.queue = [queued for queued in hold.queue if queued.waiter != waiter]
        if was_first and not self._is_held(hold, now):
            self._wake_first(name, hold, wake)

    def free_at(self, name: str) -> float:
        """When the lease of a key ends if it is not renewed."""
        return self.holds[name].until

    def forget_ended(self, now: float) -> None:
        """Remove the keys that have neither a holder nor a waiter."""
        ended = [
            name
            for name, hold in self.holds.items()
            if hold.until <= now and not any(_is_alive(queued, now) for queued in hold.queue)
        ]
        for name in ended:
            del self.holds[name]

    def _is_held(self, hold: Hold, now: float) -> bool:
        if hold.until > now + hold.seconds:  # the clock was set back
            hold.until = now + hold.seconds
        return hold.until > now

    def _wake_first(self, name: str, hold: Hold, wake: Callable[[QueuedWaiter], bool]) -> None:
        while hold.queue and not wake(hold.queue[0]):
            hold.queue = hold.queue[1:]
        if not hold.queue:
            del self.holds[name]


class LockFiles:
    """The lock files of one folder.

    Args:
        folder: where they are.
        clock: returns Unix time in seconds.
        retry_for: seconds to wait for one. It is held for some microseconds, unless its holder was stopped just then.
    """

    def __init__(self, folder: Path, clock: Callable[[], float], retry_for: float) -> None:
        self._retry_for = retry_for
        self._paths = [str(folder / f"{number:02}") for number in range(_SHARDS)]
        self._clock = clock

    @contextmanager
    def open(self, number: int) -> Generator[Shard]:
        """Lock one lock file, and write what the block changes in it, unless the block raises.

        Raises:
            StorageUnavailableError: another process has had it for `retry_for` seconds.
            OSError: it cannot be opened, read or written.
        """
        with exclusive(self._paths[number], self._retry_for) as file:
            before = os.pread(file, os.fstat(file).st_size, 0)
            shard = _parse(before)
            yield shard
            shard.forget_ended(self._clock())
            after = _serialize(shard)
            if after != before:
                os.pwrite(file, after, 0)
                if len(after) < len(before):
                    os.ftruncate(file, len(after))


@contextmanager
def exclusive(path: str, retry_for: float) -> Generator[int]:
    """Lock a lock file, and give its descriptor."""
    file = _open_exclusive(path, retry_for)
    try:
        yield file
    finally:
        # Explicitly, because a forked child may have the file open as well.
        fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)


def _open_exclusive(path: str, retry_for: float) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _flock(file, retry_for)
            if os.fstat(file).st_nlink:  # else it was removed while we waited
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _flock(file: int, retry_for: float) -> None:
    end, pause = time.monotonic() + retry_for, 0.0002
    while True:
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.monotonic() > end:
            raise StorageUnavailableError(
                f"another process has kept a lock file of the folder for {retry_for:g} s; "
                "it seems to be stopped: let it go on, or end it"
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.01)


def shard_of(name: str) -> int:
    """The number of the lock file that covers a key."""
    return zlib.crc32(name.encode()) % _SHARDS


_DECODER = msgspec.json.Decoder(Shard)


def _parse(data: bytes) -> Shard:
    checksum, _, text = data.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return Shard()
    with suppress(msgspec.DecodeError):
        return _DECODER.decode(text)
    return Shard()


def _serialize(shard: Shard) -> bytes:
    text = msgspec.json.encode(shard)
    return b"%08x %b" % (zlib.crc32(text), text)


def _is_alive(waiter: QueuedWaiter, now: float) -> bool:
    return abs(now - waiter.seen) < LONGEST_SILENCE


def _enqueue(queue: list[QueuedWaiter], waiter: QueuedWaiter) -> None:
    for index, other in enumerate(queue):
        if other.waiter == waiter.waiter:
            queue[index] = waiter
            return
    queue.append(waiter)

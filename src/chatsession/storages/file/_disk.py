"""One session's files: read, written beside and moved into place, and their errors put into words."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from chatsession.errors import StorageError
from chatsession.storages.file._errors import EmptyFileError

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_MOST_OPEN = 64
_COARSEST = 2_000_000_000
"""Nanoseconds: the coarsest clock of any file system (FAT)."""
_PAGE = 4096
_PATIENCE, _PAUSE = 0.5, 0.005
"""Seconds: how long to wait for another program that writes in place, and the pause between two looks."""
_NEVER = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


class Stamp(NamedTuple):
    """A file's version: replacing or editing it, also by hand, changes at least one of these."""

    mtime_ns: int
    inode: int
    size: int


class Expiry(NamedTuple):
    """When a session expires."""

    at: float
    mtime_ns: int | None
    """Of the file that it holds for: not for what others wrote since. `None`: it holds for any."""


def read(path: str) -> tuple[bytes, Stamp] | None:
    """A session's bytes and version; `None` if there is no such file.

    Raises:
        StorageError: it is there, but is not a session.
        OSError: it cannot be read.
    """
    try:
        file = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StorageError(f"{path} is a link, and no session; remove it") from None
        raise
    try:
        status = os.fstat(file)
        _check(path, status)
        data = os.read(file, status.st_size + 1)
        while more := os.read(file, 1 << 20):
            data += more
    finally:
        os.close(file)
    # Only blanks: this stands for one blank less (see `draft`).
    return data[:-1] if data.isspace() else data, _stamp(status)


def read_settled(path: str) -> tuple[bytes, Stamp] | None:
    """As `read`, where others write in place: waits a moment for a file that may be in the middle of that.

    A file is emptied first and then filled page by page, so that one of full pages may not yet be all of it.
    """
    before: Stamp | None = None
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with suppress(EmptyFileError):
            found = read(path)
            if found is None or found[1] == before or (found[1].size % _PAGE and look(path) == found[1]):
                return found
            before = found[1]
        time.sleep(_PAUSE)
    return read(path)


def mtime_of(path: str) -> int | None:
    """When a file was last written; `None` if there is none."""
    try:
        return os.lstat(path).st_mtime_ns
    except FileNotFoundError:
        return None


def look(path: str) -> Stamp | None:
    """A session's version; `None` if there is no such file. Raises as `read`."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    _check(path, status)
    return _stamp(status)


def draft_all(drafts: Iterable[tuple[str, bytes]], *, sync: bool) -> dict[str, OSError]:
    """Write new files, many at a time, so that the disk can take them together.

    Args:
        drafts: where to write, and what.
        sync: whether they must outlast a power cut.

    Returns:
        The files that could not be written.
    """
    failures: dict[str, OSError] = {}
    files: dict[str, int] = {}
    for path, data in drafts:
        try:
            files[path] = _draft(path, data)
        except OSError as error:
            failures[path] = error
        if len(files) >= _MOST_OPEN:
            _finish(files, failures, sync=sync)
    _finish(files, failures, sync=sync)
    return failures


def newer_than(path: str, other: Stamp | None) -> Stamp:
    """The version of a draft, made later than that of the file it will replace."""
    stamp = _stamp(os.stat(path))
    if other is None or stamp.mtime_ns > other.mtime_ns:
        return stamp
    for step in (1, _COARSEST):
        later = other.mtime_ns + step
        os.utime(path, ns=(later, later))
        stamp = _stamp(os.stat(path))
        if stamp.mtime_ns > other.mtime_ns:
            break
    return stamp


def read_expiry(path: str) -> Expiry | None:
    """When a session expires: a link that points to the time, for all to see; `None` if there is no link.

    Behind the time may stand, after a blank, for which writing of the file it holds.
    """
    try:
        target = os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise StorageError(f"{path} is not the expiry of a session; remove it") from None
        raise
    time_text, _, mtime = target.partition(" ")
    try:
        return Expiry(datetime.fromisoformat(time_text).timestamp(), int(mtime) if mtime else None)
    except ValueError:
        raise StorageError(f"{path} does not point to a time; remove it") from None


def write_expiry(path: str, draft: str, expiry: Expiry) -> None:
    """Set a session's expiry, in one step."""
    time_text = datetime.fromtimestamp(min(expiry.at, _NEVER), UTC).isoformat()
    os.symlink(time_text if expiry.mtime_ns is None else f"{time_text} {expiry.mtime_ns}", draft)
    os.rename(draft, path)


def remove(path: str) -> bool:
    """Remove a file; `False` if there was none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def sync_folders(folders: Collection[str]) -> dict[str, OSError]:
    """Make what was moved into or removed from folders outlast a power cut; returns those where that failed."""
    failures: dict[str, OSError] = {}
    for folder in folders:
        try:
            file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _sync(file)
            finally:
                os.close(file)
        except FileNotFoundError:
            continue  # nothing was ever stored there, and nothing was removed
        except OSError as error:
            failures[folder] = error
    return failures


def _sync(file: int) -> None:
    if full := getattr(fcntl, "F_FULLFSYNC", None):  # on macOS, fsync leaves data in the disk's own cache
        fcntl.fcntl(file, full)
    else:
        os.fsync(file)


def _check(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(f"{path} is not a file; remove it")
    if status.st_size == 0:
        raise EmptyFileError(
            f"{path} is empty: its writing was interrupted, or it is not a session; repair or remove it"
        )


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_mtime_ns, status.st_ino, status.st_size)


def _draft(path: str, data: bytes) -> int:
    file = os.open(path, _WRITE, 0o666)
    try:
        # A session is never empty or blank in JSON; should a codec make one so, a blank more tells it from a torn file.
        rest = memoryview(data + b" " if not data or data.isspace() else data)
        while rest:
            rest = rest[os.write(file, rest) :]
        # The kernel's own stamp may be some milliseconds coarse, and two drafts get the same.
        os.utime(file, ns=(now := time.time_ns(), now))
    except BaseException:
        os.close(file)
        raise
    return file


def _finish(files: dict[str, int], failures: dict[str, OSError], *, sync: bool) -> None:
    if sync and hasattr(os, "posix_fadvise"):
        for file in files.values():  # starts all the writing, so that the syncs below wait for it only once
            with suppress(OSError):
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    for path, file in files.items():
        try:
            if sync:
                _sync(file)
        except OSError as error:
            error.filename = path
            failures[path] = error
        finally:
            os.close(file)
    files.clear()

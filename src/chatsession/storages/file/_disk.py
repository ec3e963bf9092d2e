"""Reads, writes and renames the files of one session."""

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
"""Seconds to wait for another program that writes in place, and the pause between two checks."""
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
    """The file's time when the expiry was set: it does not apply to later contents. `None`: it always applies."""


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
    # Only blanks: one of them was added (see `_draft`).
    return data[:-1] if data.isspace() else data, _stamp(status)


def read_settled(path: str) -> tuple[bytes, Stamp] | None:
    """As `read`, for files that others write in place: waits a moment if a file may be only half written.

    Such a file is truncated and then filled page by page, so a file of full pages may not be complete.
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
    """A session's version; `None` if there is no such file. Raises as `read` does."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    _check(path, status)
    return _stamp(status)


def draft_all(drafts: Iterable[tuple[str, bytes]], *, sync: bool) -> dict[str, OSError]:
    """Write new files, many at a time, so that the disk can sync them together.

    Args:
        drafts: the paths and contents of the files.
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
    """When a session expires, from the link that points to the time; `None` if there is no link.

    The time may be followed by a space and the `mtime_ns` of the file to which it applies.
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
            continue  # nothing was stored there or removed from it
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
        # JSON is never empty or blank. If a codec's output is, an extra space distinguishes it from a torn file.
        rest = memoryview(data + b" " if not data or data.isspace() else data)
        while rest:
            rest = rest[os.write(file, rest) :]
        # The kernel's own time stamps may be milliseconds coarse, so that two drafts would get the same.
        os.utime(file, ns=(now := time.time_ns(), now))
    except BaseException:
        os.close(file)
        raise
    return file


def _finish(files: dict[str, int], failures: dict[str, OSError], *, sync: bool) -> None:
    if sync and hasattr(os, "posix_fadvise"):
        for file in files.values():  # start writing all of them, so that the syncs below overlap
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

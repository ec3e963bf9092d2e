"""The operating system's errors in the terms of the contract."""

from __future__ import annotations

import errno
import os

from chatsession.errors import SessionError, StorageError, StorageUnavailableError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this user has no permission",
    errno.EPERM: "this user has no permission",
    errno.EMFILE: "this process has too many files open",
    errno.ENFILE: "this machine has too many files open",
}
_PASSING = {errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EAGAIN, errno.ENOMEM}


class EmptyFileError(StorageError):
    """A file that holds nothing: no session, or one that is being written in place."""


def storage_error(error: OSError | SessionError, key: str | None = None) -> SessionError:
    """The error that the caller sees.

    Args:
        error: of the operating system, or of this library, which may lack the key.
        key: of the session that it concerns.
    """
    if isinstance(error, SessionError):  # first, because StorageUnavailableError is an OSError, too
        return error if key is None or error.key is not None else type(error)(str(error), key=key)
    kind = StorageUnavailableError if error.errno in _PASSING else StorageError
    where = f" ({error.filename})" if error.filename else ""
    return kind(f"{reason(error)}{where}; what is stored is as it was", key=key)


def reason(error: OSError) -> str:
    """What the operating system said, in plain words."""
    return _REASONS.get(error.errno or 0) or os.strerror(error.errno or 0)

"""Maps SQLite's errors to those of the contract."""

from __future__ import annotations

import sqlite3

from chatsession.errors import SessionError, StorageError, StorageUnavailableError

_ERRORS: dict[int, tuple[type[StorageError], str]] = {
    sqlite3.SQLITE_BUSY: (
        StorageUnavailableError,
        "another process kept it locked for longer than retry_for; see what else writes to it",
    ),
    sqlite3.SQLITE_LOCKED: (StorageUnavailableError, "another connection kept a table locked; see what else uses it"),
    sqlite3.SQLITE_FULL: (StorageError, "the disk is full; nothing of this change was written, make room and go on"),
    sqlite3.SQLITE_READONLY: (StorageError, "it cannot be written to; see the rights of the file and of its folder"),
    sqlite3.SQLITE_CANTOPEN: (StorageError, "it cannot be opened; see whether its folder is there, and its rights"),
    sqlite3.SQLITE_NOTADB: (
        StorageError,
        "there is no SQLite database in it; nothing was changed, see whether the path is right",
    ),
    sqlite3.SQLITE_CORRUPT: (
        StorageError,
        "it is damaged; nothing was written, rescue it with the sqlite3 program (.recover) or from a backup",
    ),
    sqlite3.SQLITE_IOERR: (StorageError, "the disk failed; nothing of this change counts as written"),
}


def is_busy(error: BaseException) -> bool:
    """Whether another connection has locked the file."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def explained(error: Exception, file: str) -> Exception:
    """Translate an error that occurred while the file was used."""
    if isinstance(error, OSError):
        return StorageError(f"the SQLite file {file} cannot be reached ({error.strerror}); is the path right?")
    if isinstance(error, SessionError) or not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kind, advice = _ERRORS.get(code, (StorageError, "see the cause"))
    result = kind(f"the SQLite file {file} failed ({error}): {advice}")
    result.__cause__ = error
    return result

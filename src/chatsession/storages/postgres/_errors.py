"""Translates what PostgreSQL, asyncpg and the network raise into errors of this library.

PostgreSQL's own messages are left out: their details quote rows, and some name users.
"""

from __future__ import annotations

import socket

from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages.postgres._driver import InterfaceError, InternalClientError, PostgresError

ROW_HELD = (
    "another transaction in PostgreSQL has locked the row of this session for more than a second; end that "
    "transaction (pg_stat_activity shows it)"
)
_HINTS = {
    "25006": "it is a read-only replica, or set to read-only; give the URL of the primary",
    "26000": "it does not know a prepared statement; if a pooler such as PgBouncer is in between, make the pool with "
    "statement_cache_size=0",
    "28000": "this user may not log in from here (see pg_hba.conf on the server)",
    "28P01": "the name or the password is wrong",
    "3D000": "there is no database of that name; create it first",
    "42501": "the user lacks a right on the schema or on its tables; grant it, or let another user create them "
    "with the SQL that schema_sql() gives",
    "42P05": "a prepared statement of that name exists; if a pooler such as PgBouncer is in between, make the pool "
    "with statement_cache_size=0",
    "42703": "a table of the sessions has other columns than this version of chatsession needs",
    "42883": "a function of the sessions is missing; apply the SQL that schema_sql() gives",
    "42P01": "a table of the sessions is missing; apply the SQL that schema_sql() gives",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": "it has as many connections as it allows; lower connections=, or put PgBouncer before it",
    "57014": "it cancelled the statement (by a statement_timeout or lock_timeout of this user?)",
    "57P01": "it is being shut down",
    "57P02": "it has crashed and is restarting",
    "57P03": "it is starting up or shutting down",
}

# Transient, besides lost connections (class 08): a batch of ours that was carried out already (unique violation),
# conflicts with others (serialization, deadlock), a server that is full or restarting, and one that became a replica,
# since the next connection may lead to the new primary.
_TRANSIENT = {"23505", "25006", "40001", "40P01", "53300", "57P01", "57P02", "57P03", "57P05"}
_UNAVAILABLE = _TRANSIENT - {"25006"} | {"53100", "53200", "57014"}


class RowHeldError(StorageUnavailableError):
    """Another transaction holds a row that a call needs; callers of the storage see a `StorageUnavailableError`."""


def is_row_held(error: Exception) -> bool:
    """Whether a call gave up waiting for a lock of the database."""
    return isinstance(error, PostgresError) and _state(error) == "55P03"


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed soon."""
    if isinstance(error, PostgresError):
        return _state(error) in _TRANSIENT or _state(error).startswith("08")
    if isinstance(error, ValueError):  # asyncpg's checks of its arguments
        return False
    return isinstance(error, OSError | InterfaceError | InternalClientError)


def must_cut(error: BaseException) -> bool:
    """Whether to cut the connection: its answer may still be on the way, or it leads to a useless server."""
    if isinstance(error, PostgresError):
        return _state(error) == "25006"
    return not isinstance(error, Exception) or isinstance(error, TimeoutError)


def as_storage_error(error: Exception) -> StorageError:
    """The error that the caller sees."""
    if isinstance(error, StorageError):
        return error
    if is_row_held(error):
        return RowHeldError(ROW_HELD)
    if isinstance(error, PostgresError):
        return _from_server(_state(error), type(error).__name__)
    if isinstance(error, ConnectionRefusedError):
        return StorageUnavailableError("PostgreSQL cannot be reached: nothing listens there; does the server run?")
    if isinstance(error, socket.gaierror):
        return StorageUnavailableError("PostgreSQL cannot be reached: its host name is not known")
    if isinstance(error, TimeoutError):
        return StorageUnavailableError("PostgreSQL did not answer in time")
    if is_transient(error):
        return StorageUnavailableError(f"the connection to PostgreSQL failed ({type(error).__name__})")
    return StorageError(f"asyncpg refused a call ({type(error).__name__}); is the URL or the pool as it should be?")


def _from_server(state: str, name: str) -> StorageError:
    kind = StorageUnavailableError if state in _UNAVAILABLE or state.startswith("08") else StorageError
    return kind(f"PostgreSQL refused: {_HINTS.get(state, name)} (SQLSTATE {state})")


def _state(error: PostgresError) -> str:
    state: object = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else "unknown"

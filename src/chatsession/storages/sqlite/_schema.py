"""The tables in the file: made when missing, brought up to date, and never those of another program."""

from __future__ import annotations

import sqlite3
from importlib.resources import files

from chatsession.errors import StorageError

SCHEMA = 1
_TABLES = ("sessions", "session_holders", "session_locks", "session_waiters")
_ADDED = (
    ("session_holders", "seen", "REAL"),
    ("session_locks", "seconds", "REAL"),
    ("session_locks", "waiter", "TEXT"),
)
"""Columns that files made by version 0.1 lack, and that it ignores where they are."""


def prepare(connection: sqlite3.Connection, name: str) -> None:
    """Make the tables where they are missing; within a transaction. Raises as `is_prepared`."""
    if not is_prepared(connection, name):
        _make(connection)
        return
    for table, column, type_name in _ADDED:
        if column not in _columns(connection, table):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {type_name}")


def is_prepared(connection: sqlite3.Connection, name: str) -> bool:
    """Whether the tables are there, in a version that this code knows.

    Raises:
        StorageError: the tables are newer than this code, or belong to something else.
    """
    tables = {row[0].decode() for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "chatsession" not in tables:
        taken = tables.intersection(_TABLES)
        if taken:
            raise StorageError(
                f"the SQLite file {name} has a table {min(taken)!r} of another program; give the sessions another file"
            )
        return False
    (schema,) = connection.execute("SELECT schema FROM chatsession").fetchone()
    if schema > SCHEMA:
        raise StorageError(
            f"the SQLite file {name} was written by a newer version of chatsession (schema {schema}, this one knows "
            f"up to {SCHEMA}); update the package. Nothing was changed"
        )
    return True


def _make(connection: sqlite3.Connection) -> None:
    script = files("chatsession.storages.sqlite").joinpath("schema.sql").read_text()
    without_comments = "\n".join(line.partition("--")[0] for line in script.splitlines())
    for statement in filter(str.strip, without_comments.split(";")):
        connection.execute(statement)


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1].decode() for row in connection.execute(f"PRAGMA table_info({table})")}

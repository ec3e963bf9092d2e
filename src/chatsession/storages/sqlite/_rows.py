"""Reading, committing and listing sessions: a few statements for any number of keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from chatsession.storages._base import Action, Change, Committed, Expect, Outcome, Page, Record, Refused

_json = msgspec.json.Encoder().encode


def escaped(key: str) -> str:
    """The key as it stands in the file. SQLite's JSON functions end a text at NUL, so that it must not be there."""
    if "\0" in key or "\1" in key:
        return key.replace("\1", "\1\2").replace("\0", "\1\1")
    return key


def unescaped(stored: bytes) -> str:
    """The inverse of `escaped`."""
    if b"\1" in stored:
        stored = stored.replace(b"\1\1", b"\0").replace(b"\1\2", b"\1")
    return stored.decode()


def listed(keys: Iterable[str]) -> str:
    """Keys for `json_each`, one parameter however many they are."""
    return _json([escaped(key) for key in keys]).decode()


def reserve(connection: sqlite3.Connection, count: int) -> int:
    """Take so many numbers, never given before, and return the first."""
    (first,) = connection.execute("SELECT next FROM chatsession").fetchone()
    connection.execute("UPDATE chatsession SET next = ?", (first + count,))
    return first


def read(connection: sqlite3.Connection, keys: Sequence[str], now: float) -> list[Record | None]:
    """`Storage.read_many`."""
    rows = connection.execute(
        "SELECT s.value, s.version, s.expires_at FROM json_each(?) AS j LEFT JOIN sessions AS s ON s.key = j.value "
        "ORDER BY j.key",
        (listed(keys),),
    )
    return [record(row, now) for row in rows]


def record(row: tuple[bytes | None, int | None, float | None], now: float) -> Record | None:
    """A row as a record, unless it is none or has expired."""
    value, version, expires_at = row
    if value is None or (expires_at is not None and expires_at <= now):
        return None
    return Record(value, version, expires_at)


def commit(connection: sqlite3.Connection, changes: Sequence[Change], now: float) -> list[Outcome]:
    """`Storage.commit_many`: look at all, decide on each, then write all."""
    found = connection.execute(
        "SELECT s.version, s.expires_at, l.token, l.until FROM json_each(?) AS j "
        "LEFT JOIN sessions AS s ON s.key = j.value LEFT JOIN session_locks AS l ON l.key = j.value ORDER BY j.key",
        (listed(change.key for change in changes),),
    ).fetchall()
    first = reserve(connection, len(changes))
    puts: list[tuple[str, str | bytes, int, float | None]] = []
    deletes: list[str] = []
    touches: list[tuple[float | None, str]] = []
    unlocks: list[str] = []
    outcomes: list[Outcome] = []
    for number, change, (version, expires_at, token, until) in zip(
        range(first, first + len(changes)), changes, found, strict=True
    ):
        key, action, expect, ttl, lease = change.key, change.action, change.expect, change.ttl, change.lease
        if lease is not None:
            if token != lease.token or until <= now:
                outcomes.append(Refused.LEASE_LOST)
                continue
            if change.unlock:
                unlocks.append(key)
        if expires_at is not None and expires_at <= now:
            version = None
        if expect is not Expect.ANYTHING and expect != version:
            outcomes.append(Refused.CONFLICT)
            continue
        if action is Action.PUT:
            puts.append((escaped(key), _stored(change.value), number, None if ttl is None else now + ttl))
            version = number
        elif action is Action.DELETE:
            deletes.append(key)
            version = None
        elif action is Action.TOUCH and version is not None:
            touches.append((None if ttl is None else now + ttl, escaped(key)))
        outcomes.append(Committed(version))
    _write(connection, puts, deletes, touches, unlocks)
    return outcomes


def scan(connection: sqlite3.Connection, prefix: str, cursor: str | None, limit: int, now: float) -> Page:
    """`Storage.scan`; the cursor is the last key as it is stored."""
    rows = _after(connection, "key, value, version, expires_at", prefix, cursor, limit)
    entries = ((unescaped(key), record((value, version, expires_at), now)) for key, value, version, expires_at in rows)
    return Page([(key, found) for key, found in entries if found is not None], _next(rows, limit))


def scan_keys(
    connection: sqlite3.Connection, prefix: str, cursor: str | None, limit: int, now: float
) -> tuple[list[str], str | None]:
    """`Storage.scan_keys`."""
    rows = _after(connection, "key, expires_at", prefix, cursor, limit)
    keys = [unescaped(key) for key, expires_at in rows if expires_at is None or expires_at > now]
    return keys, _next(rows, limit)


def sweep(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """Delete expired sessions, the longest expired first."""
    return connection.execute(
        "DELETE FROM sessions WHERE rowid IN "
        "(SELECT rowid FROM sessions WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (now, limit),
    ).rowcount


def _stored(value: bytes) -> str | bytes:
    try:
        return value.decode()  # as text, so that people can read it and query it as JSON
    except UnicodeDecodeError:
        return value


def _write(
    connection: sqlite3.Connection,
    puts: list[tuple[str, str | bytes, int, float | None]],
    deletes: list[str],
    touches: list[tuple[float | None, str]],
    unlocks: list[str],
) -> None:
    if puts:
        connection.executemany(
            "INSERT INTO sessions (key, value, version, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
            "SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at",
            puts,
        )
    if deletes:
        connection.execute("DELETE FROM sessions WHERE key IN (SELECT value FROM json_each(?))", (listed(deletes),))
    if touches:
        connection.executemany("UPDATE sessions SET expires_at = ? WHERE key = ?", touches)
    if unlocks:
        connection.execute(
            "DELETE FROM session_locks WHERE key IN (SELECT value FROM json_each(?))", (listed(unlocks),)
        )


def _after(
    connection: sqlite3.Connection, columns: str, prefix: str, cursor: str | None, limit: int
) -> list[tuple[Any, ...]]:
    begin = escaped(prefix)
    rows = connection.execute(
        f"SELECT {columns} FROM sessions WHERE key {'>' if cursor is not None else '>='} ? ORDER BY key LIMIT ?",
        (begin if cursor is None else cursor, limit),
    ).fetchall()
    start = begin.encode()
    return [row for row in rows if row[0].startswith(start)]


def _next(rows: list[tuple[Any, ...]], limit: int) -> str | None:
    return rows[-1][0].decode() if len(rows) == limit else None

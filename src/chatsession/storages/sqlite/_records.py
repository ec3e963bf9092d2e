"""Reading, committing and listing sessions: a few statements for any number of keys."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from chatsession.storages._shared.prefixes import is_text
from chatsession.storages.base import (
    ANYTHING,
    CONFLICT,
    DELETE,
    LEASE_LOST,
    PUT,
    TOUCH,
    Change,
    Committed,
    Outcome,
    Page,
    Record,
)

_json = msgspec.json.Encoder().encode


def escaped(key: str) -> str:
    """The key as it is stored. SQLite's JSON functions end a text at NUL, and its texts have no lone surrogates."""
    if key.isprintable():  # nearly always
        return key
    key = key.replace("\1", "\1\2").replace("\0", "\1\1")
    return re.sub("[\ud800-\udfff]", lambda lone: f"\1\3{ord(lone[0]):x}", key)


def unescaped(stored: bytes) -> str:
    """The inverse of `escaped`."""
    key = stored.decode()
    if "\1" not in key:
        return key
    return re.sub("\1(?:\3(....)|.)", _unescape, key, flags=re.DOTALL)


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else "\0" if found[0] == "\1\1" else "\1"


def listed(keys: Iterable[str]) -> str:
    """Any number of keys as one parameter, for `json_each`."""
    return _json([escaped(key) for key in keys]).decode()


def reserve(connection: sqlite3.Connection, count: int, now: float) -> int:
    """Reserve numbers that have never been used, and return the first.

    They grow with the clock too, so that none is used again after a backup was restored under a running bot.
    """
    (following,) = connection.execute("SELECT next FROM chatsession").fetchone()
    first = max(following, int(now * 1_000_000))
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
    """The record of a row; `None` if there is no row, or it has expired."""
    value, version, expires_at = row
    if value is None or (expires_at is not None and expires_at <= now):
        return None
    return Record(value, version, expires_at)


def commit(connection: sqlite3.Connection, changes: Sequence[Change], now: float) -> list[Outcome]:
    """`Storage.commit_many`: read all keys, decide on each, then write all."""
    keys = [escaped(change.key) for change in changes]
    found = connection.execute(
        "SELECT s.rowid, s.version, s.expires_at, l.token, l.until FROM json_each(?) AS j "
        "LEFT JOIN sessions AS s ON s.key = j.value LEFT JOIN session_locks AS l ON l.key = j.value ORDER BY j.key",
        (_json(keys).decode(),),
    ).fetchall()
    first = reserve(connection, len(changes), now)
    writes = _Writes([], [], [], [], [])
    outcomes: list[Outcome] = []
    for number, key, change, (row, version, expires_at, token, until) in zip(
        range(first, first + len(changes)), keys, changes, found, strict=True
    ):
        action, expect, lease = change.action, change.expect, change.lease
        if lease is not None:
            if token != lease.token or until <= now:
                outcomes.append(LEASE_LOST)
                continue
            if change.unlock:
                writes.unlocks.append(key)
        if expires_at is not None and expires_at <= now:
            version = None
        if expect is not ANYTHING and expect != version and not change.accepts(version, now):
            outcomes.append(CONFLICT)
            continue
        expiry = None if change.ttl is None else now + change.ttl
        if action is PUT:
            version = number
            if row is None:
                writes.inserts.append((_stored(change.value), number, expiry, key))
            else:
                writes.updates.append((_stored(change.value), number, expiry, row))
        elif action is DELETE:
            version = None
            if row is not None:
                writes.deletes.append((row,))
        elif action is TOUCH and version is not None:
            writes.touches.append((expiry, row))
        outcomes.append(Committed(version))
    _carry_out(connection, writes)
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


class _Writes(NamedTuple):
    """The parameters of the statements that carry out a batch of changes."""

    inserts: list[tuple[str | bytes, int, float | None, str]]
    updates: list[tuple[str | bytes, int, float | None, int]]
    deletes: list[tuple[int]]
    touches: list[tuple[float | None, int]]
    unlocks: list[str]


def _carry_out(connection: sqlite3.Connection, writes: _Writes) -> None:
    if writes.updates:
        connection.executemany(
            "UPDATE sessions SET value = ?, version = ?, expires_at = ? WHERE rowid = ?", writes.updates
        )
    if writes.inserts:
        connection.executemany(
            "INSERT INTO sessions (value, version, expires_at, key) VALUES (?, ?, ?, ?)", writes.inserts
        )
    if writes.deletes:
        connection.executemany("DELETE FROM sessions WHERE rowid = ?", writes.deletes)
    if writes.touches:
        connection.executemany("UPDATE sessions SET expires_at = ? WHERE rowid = ?", writes.touches)
    if writes.unlocks:
        connection.execute(
            "DELETE FROM session_locks WHERE key IN (SELECT value FROM json_each(?))", (_json(writes.unlocks).decode(),)
        )


def _after(
    connection: sqlite3.Connection, columns: str, prefix: str, cursor: str | None, limit: int
) -> list[tuple[Any, ...]]:
    begin = escaped(prefix)
    place = begin if cursor is None else cursor
    if not is_text(place):  # no enumeration gives such a cursor
        return []
    start = begin.encode()
    rows = connection.execute(
        f"SELECT {columns} FROM sessions WHERE key {'>' if cursor is not None else '>='} ? ORDER BY key LIMIT ?",
        (place, limit),
    ).fetchall()
    return [row for row in rows if row[0].startswith(start)]


def _next(rows: list[tuple[Any, ...]], limit: int) -> str | None:
    return rows[-1][0].decode() if len(rows) == limit else None
